"""Tests of talim.backbones.readable_text: words that a tokenizer does not know are named."""

from __future__ import annotations

import types
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.normalizers import NFKC
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from talim.backbones.nano.musicgen import ByteTokenizer
from talim.backbones.readable_text import unreadable_warning, unreadable_words

LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-äöüéèàçßîâțș"


@pytest.fixture(scope="module")
def t5_like() -> Any:
    """As T5's: pieces of English, French, German and Romanian; everything else is one unknown token."""
    model = Unigram([("<unk>", 0.0), *((letter, -2.0) for letter in LETTERS)], unk_id=0)
    tokenizer: Any = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = NFKC(), Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slow flute, raga Yaman", []),
        ("café müde", []),
        ("静かな朝の音楽", ["静かな朝の音楽"]),
        ("slow राग यमन flute", ["राग", "यमन"]),
        ("rāga Yamān, ney taksimi in Şehnaz", ["rāga", "Yamān,", "Şehnaz"]),
        ("ra\u0304ga", ["ra\u0304ga"]),
        ("тихая музыка", ["тихая", "музыка"]),
        ("{loud} music", ["{loud}"]),
        ("", []),
    ],
)
def test_words_with_unknown_tokens_are_found(t5_like: Any, text: str, words: list[str]) -> None:
    assert unreadable_words(t5_like, [text, text]) == words


def test_a_miniature_reads_plain_letters_only() -> None:
    assert unreadable_words(ByteTokenizer(), ["slow 静かな rāga flute"]) == ["静かな", "rāga"]


def test_the_warning_names_base_words_and_the_way_out(t5_like: Any) -> None:
    base: Any = types.SimpleNamespace(name="musicgen-small", tokenizer=t5_like, miniature=False)
    assert unreadable_warning(base, ["slow flute"], "the prompt") == ""
    warning = unreadable_warning(base, ["静かな朝"], "the prompt")
    assert warning.startswith("warning: musicgen-small cannot read 1 word of the prompt: 静かな朝. ")
    assert "write English" in warning
    many = unreadable_warning(base, [" ".join("ăāīūñõŵŷ")], "the captions")
    assert "8 words of the captions" in many
    assert "and 2 more" in many
    nano: Any = types.SimpleNamespace(name="nano-musicgen", tokenizer=ByteTokenizer(), miniature=True)
    assert "was taught English in the letters a to z" in unreadable_warning(nano, ["静かな朝"], "the prompt")
