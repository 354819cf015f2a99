"""What of a prompt or a caption a base model can read, and the spelling in which it reads the rest.

The text encoders of the bases were taught English (T5's also German, French and Romanian): a letter that their
tokenizer does not know, and every word of another script, is one and the same unknown token.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from talim.html.formatting import format_counted
from talim.traditions.plain_letters import Stretch, spell_plainly, spelled_stretches

MAX_TEXTS = 50_000  # that are looked at
SHOWN_WORDS = 6
PUNCTUATION = ".,;:!?()'\""  # around a word
BETWEEN_PUNCTUATION = re.compile(r"[^.,;:!?()、。・，．：；！？（）「」『』【】…।/]+")
SHOWN_PAIRS = 3
SHOWN_LETTERS = 60  # of a text in a message


class TextReader:
    """What a tokenizer knows of a text, and the spelling that it can read.

    A miniature's tokenizer takes any byte, but its text encoder was taught English in plain letters: there everything
    else counts as unknown. None is the tokenizer of no base: plain letters, too.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        name: str = "a base that knows only the letters a to z",
        max_tokens: int | None = None,
    ) -> None:
        """`max_tokens`: how many of a text are read, what follows being cut; None for all."""
        self.tokenizer, self.name = tokenizer, name
        self.max_tokens: int | None = getattr(tokenizer, "max_prompt_tokens", max_tokens)
        self.plain_letters = tokenizer is None or getattr(tokenizer, "taught_plain_letters", False)
        self._unknown = None if self.plain_letters else getattr(tokenizer, "unk_token_id", None)
        self._known: dict[str, bool] = {}

    def can_read(self, word: str) -> bool:
        """Whether a word without white space holds nothing unknown."""
        if word not in self._known:
            self._known[word] = not self.count_tokens(word)[0]
        return self._known[word]

    def spell(self, text: str) -> str:
        """The text with what cannot be read in plain Latin letters, as far as rules go; ASCII never changes."""
        return text if text.isascii() else spell_plainly(text, self.can_read)

    def read_and_lost(self, text: str, transliterate: bool = True) -> tuple[dict[str, str], list[str]]:
        """The words of a text that are read in another spelling, with that spelling, and those that are not read.

        Every word is in one of them at most; scripts without blanks are taken apart at their punctuation.
        """
        read: dict[str, str] = {}
        lost: list[str] = []
        stretches = self._stretches(text) if transliterate else [Stretch(text, text)]
        for written, spelled in stretches:
            for old, new in _paired(written.split(), spelled.split()) or [(written, spelled)]:
                parts = [(old, new)]
                if self.unreadable_words(new):
                    parts = _paired(*map(BETWEEN_PUNCTUATION.findall, (old, new))) or parts
                    parts = parts if any(self.unreadable_words(part) for _, part in parts) else [(old, new)]
                for part, plain in parts:
                    if self.unreadable_words(plain):
                        lost.append(part)
                    elif part != plain:
                        read[part.strip(PUNCTUATION)] = plain.strip(PUNCTUATION)
        return read, lost

    def unreadable_words(self, text: str) -> list[str]:
        """The words of a text that hold something unknown."""
        return [word for word in text.split() if not self.can_read(word)]

    def count_tokens(self, text: str) -> tuple[int, int]:
        """How many tokens of a text are unknown, and how many there are, without special ones."""
        if self.plain_letters:
            encoded = text.encode("utf-8", "replace")
            return sum(byte > 127 for byte in encoded), len(encoded)
        ids = self.token_ids(text)
        return (0 if self._unknown is None else ids.count(self._unknown)), len(ids)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        if self.tokenizer is None:
            return list(text.encode("utf-8", "replace"))
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids if isinstance(ids, list) else ids.flatten().tolist()

    def _stretches(self, text: str) -> Iterable[Stretch]:
        return spelled_stretches(text, self.can_read)


def _paired(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of both, which are as many; else none."""
    return [*zip(old, new, strict=True)] if len(old) == len(new) else []


@dataclass(frozen=True)
class Reading:
    """How a base reads some texts."""

    unknown_share: float  # 0 to 1, of their tokens as they are written
    spelled: dict[str, str] = field(default_factory=dict)  # words that are read in another spelling
    unreadable: tuple[str, ...] = ()  # words that are not read in any, as they are written
    alike: tuple[tuple[str, ...], ...] = ()  # texts that differ and are the same tokens
    cut: tuple[int, int, int] = (0, 0, 0)  # texts of which the end is not read, tokens of the longest, tokens read

    def as_dict(self) -> dict[str, Any]:
        """For run.json; nothing that is empty."""
        facts = {"unknown_share": round(self.unknown_share, 6), "spelled": self.spelled, "unreadable": self.unreadable}
        facts |= {"alike": self.alike, "cut": self.cut if self.cut[0] else ()}
        return {name: value for name, value in facts.items() if value}


def examine(reader: TextReader, texts: Iterable[str], transliterate: bool = True) -> Reading:
    """How texts are read, in another spelling or (not `transliterate`) as they are written."""
    distinct = list(dict.fromkeys(texts))[:MAX_TEXTS]
    counts = [reader.count_tokens(text) for text in distinct]
    spelled: dict[str, str] = {}
    unreadable: dict[str, None] = {}
    by_tokens: dict[tuple[int, ...], list[str]] = defaultdict(list)
    lengths = []
    for text, (unknown, count) in zip(distinct, counts, strict=True):
        read = reader.spell(text) if unknown and transliterate else text
        if unknown:
            changed, lost = reader.read_and_lost(text, transliterate)
            spelled |= changed
            unreadable |= dict.fromkeys(lost)
        lengths.append(count if read == text else reader.count_tokens(read)[1])
        by_tokens[tuple(reader.token_ids(read))].append(" ".join(text.split()))
    alike = (tuple(dict.fromkeys(group)) for group in by_tokens.values())
    unknown, total = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    limit = reader.max_tokens or max(lengths, default=0)
    cut = sum(length > limit for length in lengths), max(lengths, default=0), limit
    same = tuple(group for group in alike if len(group) > 1)
    return Reading(unknown / max(total, 1), spelled, tuple(unreadable), same, cut)


def reading_notes(backbone: Any, texts: Sequence[str], what: str, off: str = "") -> list[str]:
    """Lines for whoever wrote the texts (`what`: "the prompt", "the captions"); none where all can be read as it is.

    `off` says how to have them read as they are written.
    """
    reading = examine(backbone.reader, texts, backbone.transliterate)
    return describe(reading, backbone.name, what, off)


def caption_notes(reader: TextReader | None, captions: Iterable[str]) -> list[str]:
    """As `reading_notes` for the captions of a corpus, before a base is loaded; without the kind of each line.

    None is a base that knows plain letters only.
    """
    reader = reader or TextReader()
    lines = describe(examine(reader, captions), reader.name, "the captions")
    return [line.partition(": ")[2] for line in lines]


def describe(reading: Reading, name: str, what: str, off: str = "") -> list[str]:
    """What `examine` found: the unknown share, words in another spelling and lost ones in one line, and others."""
    lines = []
    parts = [f"{100 * reading.unknown_share:.3g} % of the tokens of {what} as written are unknown to {name}"]
    if reading.spelled:
        pairs = _listed([f"{old} -> {new}" for old, new in reading.spelled.items()])
        parts.append(f"it reads a spelling that it knows: {pairs}{f' ({off})' * bool(off)}")
    if reading.unreadable:
        count = format_counted(len(reading.unreadable), "word")
        parts.append(
            f"it cannot read {count} of {what}: {_listed(reading.unreadable)}. They mean nothing to its text encoder; "
            "write English, in the letters a to z"
        )
    if len(parts) > 1:
        lines.append(f"{'warning' if reading.unreadable else 'note'}: {'; '.join(parts)}")
    if reading.cut[0]:
        texts, longest, limit = reading.cut
        which = f"the end of {format_counted(texts, 'text')} is not read"
        lines.append(
            f"warning: {name} reads the first {limit:,} tokens of a text, and {what} have up to {longest:,}: {which}; "
            "say what matters first"
        )
    for group in reading.alike[:SHOWN_PAIRS]:
        texts = " and ".join(f"'{_shortened(text)}'" for text in group[:SHOWN_WORDS])
        lines.append(f"warning: {name} cannot tell apart {texts}: to it they are the same tokens")
    if len(reading.alike) > SHOWN_PAIRS:
        lines.append(f"warning: and {len(reading.alike) - SHOWN_PAIRS} more sets of {what} that are the same tokens")
    return lines


def _listed(items: Sequence[str]) -> str:
    more = len(items) - SHOWN_WORDS
    return ", ".join(items[:SHOWN_WORDS]) + (f" and {more} more" if more > 0 else "")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_LETTERS else f"{text[: SHOWN_LETTERS - 3]}..."
