"""Talim's kinds in the test files of PEFT that name LoRA: low level API, mixed adapters, torch.compile.

Where a test makes a `LoraConfig`, a configuration of ours is made with the same targets. In test_mixed.py, whose tests
are made at its import, `linear` stands for LoKr.
"""

from __future__ import annotations

import importlib
import inspect
import os
import types
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import peft
import pytest
import transformers
from peft import PeftConfig

LAYERS = r"model\.decoder\.layers\.\d+"  # of OPT, in the tests that run a model
PROJECTIONS = ("q_proj", "v_proj", "query", "value")  # what PEFT's LoRA takes in these models by default
COMPILE_VARIABLE = "PEFT_DEBUG_WITH_TORCH_COMPILE"  # without it, PEFT leaves its compile tests out
BACKEND = "aot_eager"  # captures and differentiates the graph; what is left out is the C++ compiler
LOW_LEVEL, MIXED, COMPILED = "tests.test_low_level_api", "tests.test_mixed", "tests.test_torch_compile"
QUOTES = ("be yourself everyone else is taken", "so many books so little time", "a room without books")
AUTO_CLASSES = ("AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification")


def config_of(cls: type[PeftConfig], **options: Any) -> PeftConfig:
    """Our configuration with the targets of a LoRA's, by default where it is run whole layers."""
    kept = ("task_type", "target_modules", "modules_to_save", "exclude_modules")
    values = {name: options[name] for name in kept if options.get(name) is not None}
    targets: str | list[str] = list(PROJECTIONS)
    if values.get("task_type") == "CAUSAL_LM":
        targets, values["causal"] = LAYERS, True
    is_random = False in (options.get("init_lora_weights"), options.get("init_weights"))
    return cls(**{"target_modules": targets, "init_weights": not is_random} | values)


def maker(cls: type[PeftConfig]) -> Callable[..., PeftConfig]:
    """What stands for a class of PEFT: makes ours."""
    return lambda **options: config_of(cls, **options)


def prepare(rows: Sequence[type], reference: type, models: type) -> None:
    """Import the three files with our rows and with small models in place of downloads."""
    os.environ[COMPILE_VARIABLE] = "1"
    low_level = importlib.import_module(LOW_LEVEL)
    for name in AUTO_CLASSES:
        setattr(low_level, name, models)
    vars(low_level)["hub_online_once"] = lambda *_: nullcontext()
    for name in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        setattr(low_level, name, type(name, (SmallClip,), {"model": getattr(transformers, name)}))
    same_layers = (
        low_level.TestInjectAdapterFromStateDict.test_inject_from_state_dict_and_from_config_target_same_layers
    )
    for mark in same_layers.pytestmark:
        if mark.args[0] == "config":
            mark.args[1][:] = [*(config_of(cls) for cls in rows), reference()]
            mark.kwargs["ids"][:] = [cls.__name__ for cls in (*rows, reference)]
        else:  # the models, by the classes that the file imported
            mark.args[1][:] = [(models, model_id) for _, model_id in mark.args[1]]
    compiled = importlib.import_module(COMPILED)
    compiled.AutoModelForCausalLM = models
    compiled.AutoTokenizer = Tokenizer
    compiled.load_dataset_english_quotes = Quotes
    compiled.SETTINGS.clear()
    options = {"backend": BACKEND, "torch_compile_backend": BACKEND}
    compiled.SETTINGS.update({cls.__name__: (config_of(cls, task_type="CAUSAL_LM"), options) for cls in rows})
    compiled.SETTINGS[reference.__name__] = (reference(task_type="CAUSAL_LM"), options)
    original = peft.LoKrConfig
    peft.LoKrConfig = maker(rows[0])  # type: ignore[misc,assignment]
    try:
        mixed = importlib.import_module(MIXED)
    finally:
        peft.LoKrConfig = original  # type: ignore[misc]
    mixed.AutoModelForCausalLM = models


def needs_substitute(metafunc: pytest.Metafunc) -> bool:
    """Whether a test makes its configuration itself, so that a class has to stand for LoRA's."""
    module = metafunc.module.__name__
    return module in (LOW_LEVEL, COMPILED) and not {"config", "config_cls", "settings"} & set(metafunc.fixturenames)


def has_made_configs(item: pytest.Item) -> bool:
    """Whether a test's rows hold configurations instead of their classes."""
    return item.nodeid.partition("::")[0].endswith(("test_low_level_api.py", "test_torch_compile.py"))


def is_mixed_with_ours(item: pytest.Item) -> bool:
    """Whether a test of test_mixed.py was made or makes a configuration with what stands for LoKr."""
    function: Any = getattr(item, "function", None)
    if function is None or item.nodeid.partition("::")[0].rpartition("/")[2] != "test_mixed.py":
        return False
    if "Lin" in item.name.split("_")[-2:]:  # names end in the two classes, less their last six letters
        return True
    return hasattr(function, "__wrapped__") is False and "LoKrConfig" in inspect.getsource(function)


def make_substitute(module: types.ModuleType, cls: type, reference: type, patch: pytest.MonkeyPatch) -> None:
    """Put `cls` in the place of LoRA in a test's module."""
    if cls is not reference:
        patch.setattr(module, "LoraConfig", maker(cls))


class SmallClip:
    """Stands for a downloaded text model of CLIP."""

    model: Any

    @classmethod
    def from_pretrained(cls, _: str) -> Any:
        sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
        return cls.model(transformers.CLIPTextConfig(**sizes, intermediate_size=32, projection_dim=16))


class Tokenizer:
    """Stands for a downloaded one: a word is a number; `pad` fills up with 1."""

    model_max_length, pad_token, pad_token_id, padding_side = 16, "<pad>", 1, "right"

    @classmethod
    def from_pretrained(cls, _: str) -> Tokenizer:
        return cls()

    def __call__(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
        rows = [[2 + sum(map(ord, word)) % 900 for word in text.split()] for text in texts]
        return {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}

    def save_pretrained(self, _: Any) -> None:
        """The trainer stores it beside a checkpoint; nothing reads it."""

    def pad(self, rows: Any, **_: Any) -> Any:
        """The rows of a dictionary of lists, or of a list of dictionaries, as tensors of one length."""
        import torch
        from transformers import BatchEncoding

        named = rows if isinstance(rows, dict) else {name: [row[name] for row in rows] for name in rows[0]}
        longest = max(map(len, named["input_ids"]))
        filling = {"input_ids": self.pad_token_id, "attention_mask": 0}
        return BatchEncoding(
            {
                name: torch.tensor([[*row, *[filling[name]] * (longest - len(row))] for row in values])
                for name, values in named.items()
            }
        )


class Quotes:
    """Stands for the data set of quotes: rows of words as a list of columns, with the calls that PEFT's tests make."""

    def __init__(self, columns: dict[str, list[Any]] | None = None) -> None:
        texts = [quote for quote in QUOTES for _ in range(8)]
        self.columns = columns or {"quote": texts, "author": texts, "tags": texts}

    def map(self, change: Callable[[dict[str, list[Any]]], dict[str, list[Any]]], batched: bool) -> Quotes:
        return Quotes(self.columns | dict(change(self.columns)))

    def remove_columns(self, names: Sequence[str]) -> Quotes:
        return Quotes({name: values for name, values in self.columns.items() if name not in names})

    def __getitem__(self, key: str | int | slice) -> Any:
        if key == "train":
            return self
        return {name: values[key] for name, values in self.columns.items()}  # type: ignore[index]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))
