"""What of a prompt or a caption a base model cannot read: words with letters that its tokenizer does not know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from talim.html.formatting import format_counted

MAX_WORDS = 20_000  # that are looked at
SHOWN_WORDS = 6


def unreadable_words(tokenizer: Any, texts: Iterable[str]) -> list[str]:
    """The words that hold a token which the tokenizer does not know, in order, each once.

    A miniature's tokenizer takes any byte; its text encoder was taught English in plain letters, so there it is every
    word with another letter.
    """
    words = list(dict.fromkeys(word for text in texts for word in text.split()))[:MAX_WORDS]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return [word for word in words if not word.isascii()]
    return [word for word in words if unknown in _ids(tokenizer, word)]


def unreadable_warning(backbone: Any, texts: Iterable[str], what: str) -> str:
    """A sentence for whoever wrote the texts (`what`: "the prompt", "the captions"); empty where all can be read."""
    words = unreadable_words(backbone.tokenizer, texts)
    if not words:
        return ""
    shown = ", ".join(words[:SHOWN_WORDS]) + (f" and {len(words) - SHOWN_WORDS} more" * (len(words) > SHOWN_WORDS))
    reason = "was taught English in the letters a to z" if backbone.miniature else "does not know all of their letters"
    return (
        f"warning: {backbone.name} cannot read {format_counted(len(words), 'word')} of {what}: {shown}. Its text "
        f"encoder {reason}, so they mean little or nothing to it; write English, without accents "
        "(Yaman instead of Yamān)"
    )


def _ids(tokenizer: Any, word: str) -> list[int]:
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return ids if isinstance(ids, list) else ids.flatten().tolist()
