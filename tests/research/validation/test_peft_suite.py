"""Counting and the page of PEFT's own tests; the rows themselves are talim's kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from research.validation import peft_suite, peft_suite_rows, peft_suite_substitutes
from talim.adapters import AdapterConfig
from talim.design.adapter_kinds import KINDS

FILE = "tests/test_custom_models.py"


def row(name: str, outcome: str, cause: str = "", reference: bool = False) -> dict[str, Any]:
    cls = "LoraConfig" if reference else "ConvRow"
    test = f"{FILE}::TestX::{name}[{cls}]"
    shared = {"outcome": outcome, "cause": cause, "reference": reference}
    return {"test": test, "any_class": test.replace(cls, "*"), **shared}


ROWS = [
    row("a", "passed"),
    row("b", "failed", "TalimError: adapters cannot be merged into the base; unload() gives the plain base back"),
    row("c", "failed", "UsageError: x: a Linear is not given the cache of a decoding model, so ..."),
    row("d", "failed", "assert False"),
    row("d", "failed", "assert False", reference=True),
    row("e", "failed", "assert False"),
    row("f", "skipped"),
]


def test_count_tells_refusals_from_failures() -> None:
    counts = peft_suite.count(ROWS)["test_custom_models.py"]
    assert counts["passed"] == counts["merge"] == counts["skipped"] == counts["failed"] == 1
    assert counts[peft_suite.OUTDATED] == 1
    assert sum(counts.values()) == len(ROWS) - 1  # the reference is none of talim's


def test_page_holds_the_table() -> None:
    page = peft_suite.page(peft_suite.count(ROWS), "abc")
    assert "| passed | 1 | 0 | 0 | 0 | 0 | 0 | 1 |" in page
    assert "| **failed** | 1 | 0 | 0 | 0 | 0 | 0 | 1 |" in page
    assert "commit abc" in page


def test_published_page_has_no_failure() -> None:
    assert "| **failed** | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in peft_suite.PAGE.read_text(encoding="utf-8")


def test_rows_hold_every_kind_and_are_valid() -> None:
    assert set(peft_suite_rows.ROWS) == set(KINDS)
    rows = peft_suite_rows.custom_rows()
    assert {options["kind"] for *_, options in rows} == set(KINDS)
    assert all(isinstance(cls(**options), AdapterConfig) for *_, cls, options in rows)
    assert all(cls(**options).width == 4 for cls, options in peft_suite_rows.model_rows("CAUSAL_LM"))


def test_small_models_have_blocks_that_the_rows_name() -> None:
    import re

    for family in ("OPT", "GPT2", "GPTJ", "Llama", "Mistral", "qwen2", "Gemma3", "T5", "Bart"):
        model = peft_suite_rows.build_model(f"somebody/tiny-random-{family}")
        blocks = [path for path, _ in model.named_modules() if re.fullmatch(peft_suite_rows.BLOCKS, path)]
        assert len(blocks) == (4 if family in ("T5", "Bart") else 2)
    assert peft_suite_rows.SequenceModel()(torch.zeros(9, 10)).shape == (9, 2)


def test_count_tells_what_peft_has_for_its_own_methods_only() -> None:
    """Each reason needs its own cause: another error in the same test is a failure."""

    def outcome(test: str, cause: str, outdated: bool = False) -> str:
        row = {"test": test, "any_class": test, "outcome": "failed", "cause": cause}
        return peft_suite.classify(row, {test} if outdated else set())

    mixed = "ValueError: The provided `peft_type` 'TALIM' is not compatible with the `PeftMixedModel`."
    assert outcome("tests/test_mixed.py::x", mixed) == peft_suite.CLOSED
    assert outcome("tests/test_mixed.py::x", "assert False") == "failed"
    names = "tests/test_low_level_api.py::TestLowLevelFunctional::test_inject_adapter_in_model[ConvRow]"
    assert outcome(names, "assert hasattr(layer, 'lora_A')") == peft_suite.LORA_ONLY
    assert outcome("tests/test_low_level_api.py::test_other", "assert hasattr(layer, 'lora_A')") == "failed"
    assert outcome("x", "OSError: not fully cached locally", outdated=True) == peft_suite.DOWNLOAD
    assert outcome("x", "OSError: not fully cached locally") == "failed"


def test_config_of_a_lora_keeps_its_targets_and_takes_whole_layers_where_it_is_run() -> None:
    config = peft_suite_substitutes.config_of(peft_suite_rows.ConvRow, r=8, lora_alpha=4, target_modules=["lin0"])
    assert ({*config.target_modules}, config.kind, config.init_weights) == ({"lin0"}, "conv", True)
    run = peft_suite_substitutes.config_of(peft_suite_rows.ConvRow, task_type="CAUSAL_LM", init_lora_weights=False)
    assert run.causal
    assert not run.init_weights
    assert run.target_modules == peft_suite_substitutes.LAYERS


def test_stand_in_data_and_tokenizer_give_what_the_compile_tests_ask_for() -> None:
    tokenizer = peft_suite_substitutes.Tokenizer.from_pretrained("any")
    data = peft_suite_substitutes.Quotes().map(lambda rows: tokenizer(rows["quote"]), batched=True)
    data = data.remove_columns(["quote", "author", "tags"])
    batch = tokenizer.pad(data["train"][:2] | {})
    assert set(data["train"][0]) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 6)
    padded = tokenizer.pad([data["train"][16], data["train"][0]])  # four words and six
    assert padded["attention_mask"].sum(1).tolist() == [4, 6]
    assert padded["input_ids"][0, -1] == tokenizer.pad_token_id


def test_commit_of_a_folder_without_git_is_unknown(tmp_path: Path) -> None:
    assert peft_suite.commit_of(tmp_path) == "unknown"
