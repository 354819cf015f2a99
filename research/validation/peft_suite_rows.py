"""Pytest plugin of `peft_suite`: talim's kinds as rows of PEFT's own test files, on small models made here."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import sys
import types
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig
from torch import nn

from research.validation import peft_suite_substitutes
from talim.adapters import AdapterConfig

BLOCKS = r"(model\.|transformer\.)?((decoder|encoder)\.)?(layers|h|block)\.\d+"


@dataclass
class LinearRow(AdapterConfig):
    """Tests that are given a class only call it with `target_modules`."""

    kind: str | None = "linear"
    width: int | None = 4
    causal: bool = False


@dataclass
class ConvRow(LinearRow):
    """As `LinearRow`, for the convolution."""

    kind: str | None = "conv"


@dataclass
class TransformerRow(LinearRow):
    """As `LinearRow`, for the transformer."""

    kind: str | None = "transformer"


RESULTS_VARIABLE = "PEFT_SUITE_RESULTS"  # path of the JSON lines, one per test
REFERENCE = LoraConfig  # where it fails as well, the installed PEFT differs from the checkout
ROWS = {"linear": LinearRow, "conv": ConvRow, "transformer": TransformerRow}


class SequenceModel(nn.Module):
    """As PEFT's MLP, [9, 10] -> [9, 2], but its layers see sequences [3, 3, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.lin0, self.relu, self.lin1 = nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 2)
        self.sm = nn.LogSoftmax(dim=-1)
        self.dtype = torch.float

    def forward(self, X: torch.Tensor) -> torch.Tensor:  # noqa: N803  (the name that PEFT's tests pass)
        hidden = X.to(self.lin0.weight.dtype).reshape(3, 3, 10)
        return self.sm(self.lin1(self.relu(self.lin0(hidden)))).reshape(9, 2)


def custom_rows() -> list[tuple[str, str, type, dict[str, Any]]]:
    """Rows of TEST_CASES: every kind at one layer, at a list of layers, by regular expression, with saved modules."""
    rows: list[tuple[str, str, type, dict[str, Any]]] = []
    targets: dict[str, dict[str, Any]] = {
        "1 layer": {"target_modules": "lin0"},
        "list": {"target_modules": ["lin0", "lin1"]},
        "regex": {"target_modules": r"lin\d"},
        "modules_to_save": {"target_modules": ["lin0"], "modules_to_save": ["lin1"]},
    }
    for kind in ROWS:
        for words, target in targets.items():
            row = {"kind": kind, "width": 4, "causal": False} | target
            rows.append((f"SEQ {kind} {words}", "SEQ", AdapterConfig, row))
    for words, target in targets.items():
        rows.append((f"MLP linear {words}", "MLP", AdapterConfig, {"kind": "linear", "width": 4} | target))
    return rows


def active_rows() -> list[tuple[Any, ...]]:
    """Rows of MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES, whose model is the MLP."""
    first = {"kind": "linear", "width": 4, "target_modules": ["lin0"], "init_weights": False}
    second = first | {"seed": 1}
    elsewhere = second | {"target_modules": ["lin1"]}
    return [
        ("talim same", "talim", AdapterConfig, first, second),
        ("talim different", "talim", AdapterConfig, first, elsewhere),
    ]


def model_rows(task: str) -> list[tuple[type, dict[str, Any]]]:
    """Rows of ALL_CONFIGS in the tests of transformers models."""
    target = {"task_type": task, "width": 4, "target_modules": BLOCKS}
    return [(AdapterConfig, {"kind": kind, **target}) for kind in ROWS]


# Small models instead of downloads


def build_model(model_id: str) -> Any:
    """A small model of the family that a Hub id names."""
    sizes = {"vocab_size": 1024, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 256}
    if "125m" in model_id:
        sizes["num_hidden_layers"] = 8  # tests name some of them
    short = {"vocab_size": 1024, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 256}
    names = {
        "opt": ("OPT", sizes | {"ffn_dim": 32, "word_embed_proj_dim": 16}),
        "gptj": ("GPTJ", short | {"rotary_dim": 4}),
        "gpt2": ("GPT2", short),
        "llama": ("Llama", sizes),
        "mistral": ("Mistral", sizes),
        "qwen2": ("Qwen2", sizes | {"num_key_value_heads": 4}),
        "gemma3": ("Gemma3Text", sizes | {"num_key_value_heads": 4, "head_dim": 4}),
        "t5": ("T5", {"vocab_size": 1024, "d_model": 16, "d_ff": 32, "d_kv": 4, "num_layers": 2, "num_heads": 4}),
        "bart": ("Bart", bart_sizes()),
        "roberta": ("Roberta", sizes),
        "bert": ("Bert", sizes),
    }
    classes = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM", "Bert": "BertModel"}
    classes["Roberta"] = "RobertaForSequenceClassification"
    family = next(key for key in names if key in model_id.lower())
    name, options = names[family]
    config = getattr(transformers, f"{name}Config")(**options, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    if family in ("t5", "bart"):
        config.decoder_start_token_id = 0
        return getattr(transformers, f"{name}ForConditionalGeneration")(config)
    return getattr(transformers, classes.get(name, f"{name}ForCausalLM"))(config)


def bart_sizes() -> dict[str, int]:
    """Sizes of a small BART, whose encoder and decoder have their own."""
    sides = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in SIDE_SIZES.items()}
    return {"vocab_size": 1024, "d_model": 16, "max_position_embeddings": 256, **sides}


SIDE_SIZES = {"layers": 2, "attention_heads": 4, "ffn_dim": 32}


class LocalModels:
    """Stands for AutoModelForCausalLM and AutoModelForSeq2SeqLM."""

    @classmethod
    def from_pretrained(cls, model_id: str, **options: Any) -> Any:
        torch.manual_seed(0)
        model = build_model(str(model_id))
        model.name_or_path = model.config._name_or_path = model_id
        for dtype in (options.get("dtype"), options.get("torch_dtype")):
            model = model.to(dtype) if dtype is not None else model
        return model.eval()


# Hooks


def pytest_configure(config: pytest.Config) -> None:
    """PEFT's settings make every FutureWarning an error; these are its own calls of transformers 5.23."""
    config.addinivalue_line("filterwarnings", "ignore:.*gradient_checkpointing:FutureWarning")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Put the rows in place of PEFT's own before its files are collected."""
    if importlib.util.find_spec("datasets") is None:  # PEFT's tests import it for quantised training
        importlib.import_module("transformers.trainer")
        stub = types.ModuleType("datasets")
        stub.load_dataset = None  # type: ignore[attr-defined]
        sys.modules["datasets"] = stub
        importlib.import_module("tests.testing_utils")
        del sys.modules["datasets"]  # only there
    custom = importlib.import_module("tests.test_custom_models")
    custom.TEST_CASES[:] = custom_rows()
    custom.MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES[:] = active_rows()
    custom.ALL_PEFT_CONFIG_CLASSES[:] = [*ROWS.values(), REFERENCE]
    known = custom.MockTransformerWrapper.from_pretrained.__func__

    def from_pretrained(cls: type, model_id: str, dtype: torch.dtype | None = None) -> nn.Module:
        if model_id != "SEQ":
            return known(cls, model_id, dtype)
        torch.manual_seed(0)
        return SequenceModel().to(dtype or torch.float32)

    custom.MockTransformerWrapper.from_pretrained = classmethod(from_pretrained)
    for name, task in (("test_decoder_models", "CAUSAL_LM"), ("test_encoder_decoder_models", "SEQ_2_SEQ_LM")):
        module = importlib.import_module(f"tests.{name}")
        module.ALL_CONFIGS[:] = model_rows(task)
        for auto in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM"):
            if hasattr(module, auto):
                setattr(module, auto, LocalModels)
        for tests in vars(module).values():
            if isinstance(tests, type) and hasattr(tests, "transformers_class"):
                tests.transformers_class = LocalModels
        vars(module)["hub_online_once"] = lambda *_: nullcontext()
    vars(importlib.import_module("tests.testing_common"))["hub_online_once"] = lambda *_: nullcontext()
    peft_suite_substitutes.prepare(tuple(ROWS.values()), REFERENCE, LocalModels)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that make a LoRA themselves run once with each class in its place."""
    if peft_suite_substitutes.needs_substitute(metafunc):
        metafunc.parametrize("substitute", [*ROWS.values(), REFERENCE], indirect=True)


@pytest.fixture(autouse=True)
def substitute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class of `pytest_generate_tests` in the place of LoRA's."""
    if hasattr(request, "param"):
        peft_suite_substitutes.make_substitute(request.module, request.param, REFERENCE, monkeypatch)


def row_class(item: pytest.Item) -> type | None:
    """The configuration class of a test's row: one of talim's, or the reference; None for other tests."""
    if peft_suite_substitutes.is_mixed_with_ours(item):
        return LinearRow
    values = getattr(item, "callspec", None)
    firsts = list(values.params.values()) if values else []
    if peft_suite_substitutes.has_made_configs(item):  # instances, or pairs that begin with one
        firsts = [type(value[0] if isinstance(value, tuple) else value) for value in firsts] + firsts
    classes = [first for first in firsts if isinstance(first, type)]
    return next((cls for cls in classes if issubclass(cls, AdapterConfig) or cls is REFERENCE), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of PEFT's other methods; a test gets its own copy of the row, as some change it."""
    config.hook.pytest_deselected(items=[item for item in items if row_class(item) is None])
    items[:] = [item for item in items if row_class(item) is not None]
    for item in items:
        parameters: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
        for name, value in parameters.items():
            parameters[name] = copy.deepcopy(value) if isinstance(value, dict) else value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Write the outcome of every test, with the last line of what it raised."""
    report = yield
    if report.when == "call" or report.outcome != "passed":
        cause = "" if call.excinfo is None else " ".join(call.excinfo.exconly().split())
        cls: Any = row_class(item)
        row = {"test": item.nodeid, "outcome": report.outcome, "cause": cause}
        row |= {"reference": cls is REFERENCE, "any_class": item.nodeid.replace(cls.__name__, "*")}
        with open(os.environ[RESULTS_VARIABLE], "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return report
