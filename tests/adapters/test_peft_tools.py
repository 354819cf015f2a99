"""The tools around PEFT: a new process, the Trainer, the Hub, and the lines that docs/adapters.md shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import strangers
from fixtures.table import stir
from peft import PeftModel, get_peft_model

import talim.adapters as adapters
from talim.backbones.musicgen import MusicGen

DOC = Path(__file__).parents[2] / "docs" / "adapters.md"
FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
Fresh = Callable[..., MusicGen]


def on_llama(kind: str = "conv") -> adapters.AdapterConfig:
    return adapters.AdapterConfig(kind=kind, width=6, target_modules=strangers.BLOCKS)


def code_in_docs(containing: str) -> str:
    """The one block of Python in the docs that has these words."""
    (found,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
        if containing in block
    )
    return found


def in_a_new_process(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


LOAD_LLAMAS = """
import json, torch, talim.adapters
from peft import PeftModel
from transformers import LlamaForCausalLM
made = {}
for kind in ("linear", "conv", "transformer"):
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained("base"), kind)
    tokens = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=12, do_sample=False)
    made[kind] = tokens[0].tolist()
open("made.json", "w").write(json.dumps(made))
"""


def llamas(folder: Path) -> dict[str, list[int]]:
    """A base and an adapter of each kind in a folder; what each of them generates here."""
    strangers.llama().save_pretrained(folder / "base")
    made = {}
    for kind in ("linear", "conv", "transformer"):
        model = get_peft_model(strangers.llama(), on_llama(kind))
        stir(model)
        model.save_pretrained(folder / kind)
        tokens = model.eval().generate(torch.tensor([[5, 6, 7]]), max_new_tokens=12, do_sample=False)
        made[kind] = tokens[0].tolist()
    assert len({tuple(tokens) for tokens in made.values()}) == 3
    return made


def test_a_new_process_generates_the_same(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines in the docs train a step and save; others load and generate. And so for a Llama, with every kind."""
    first, then = code_in_docs("get_peft_model(model"), code_in_docs("PeftModel.from_pretrained(")
    for code in (first, then):
        assert len([line for line in code.splitlines() if line.strip()]) <= 14
    first, then = (code.replace("facebook/musicgen-small", str(base_folder)) for code in (first, then))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(first, names)
    model = names["model"]
    assert {path.name for path in (tmp_path / "my-adapter").iterdir()} == FILES
    assert any(weight.any() for name, weight in model.named_parameters() if "up.weight" in name)
    stir(model)  # a single step would hardly be heard
    model.save_pretrained("my-adapter")
    seeded = f"import torch\ntorch.manual_seed(0)\n{then}"
    exec(seeded, names)
    adapted = names["audio"]
    with names["model"].disable_adapter():
        torch.manual_seed(0)
        plain = names["model"].generate(**names["words"], max_new_tokens=250, guidance_scale=3.0)
    assert (adapted - plain).abs().max() > 5e-5  # a random codec makes much the same of all tokens
    expected = llamas(tmp_path)
    in_a_new_process(f"{seeded}\ntorch.save(audio, 'audio.pt')\n{LOAD_LLAMAS}", tmp_path)
    again = torch.load(tmp_path / "audio.pt", weights_only=True)
    torch.testing.assert_close(again, adapted, atol=1e-6, rtol=0)
    assert json.loads((tmp_path / "made.json").read_text(encoding="utf-8")) == expected


def test_the_trainer_trains_saves_and_resumes(tmp_path: Path) -> None:
    """Three steps in a row are the same as two, a checkpoint, and a third."""
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": row, "labels": row} for row in torch.randint(1, 40, (6, 5))]

    def trained(folder: str, steps: int, resume: bool = False) -> dict[str, torch.Tensor]:
        arguments = TrainingArguments(
            output_dir=str(tmp_path / folder),
            max_steps=steps,
            save_steps=2,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        model = get_peft_model(strangers.llama(), on_llama())
        Trainer(model=model, args=arguments, train_dataset=rows).train(resume_from_checkpoint=resume)
        return {name: weight.detach().clone() for name, weight in model.named_parameters() if "talim" in name}

    whole = trained("whole", 3)
    half = trained("half", 2)
    assert {path.name for path in (tmp_path / "half" / "checkpoint-2").iterdir()} >= FILES
    resumed = trained("half", 3, resume=True)
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight)
    assert any(not torch.equal(half[name], weight) for name, weight in whole.items())
    loaded = PeftModel.from_pretrained(strangers.llama(), str(tmp_path / "half" / "checkpoint-3"))
    for name, weight in loaded.named_parameters():
        if "talim" in name:
            assert torch.equal(weight, resumed[name])


def test_what_would_go_to_the_hub(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, ModelCard
    from huggingface_hub.errors import EntryNotFoundError

    sent: dict[str, bytes] = {}

    def refuse(*_: Any, **__: Any) -> None:
        raise EntryNotFoundError("no such repository yet")

    def commit(self: Any, repo_id: str, operations: Any, **_: Any) -> None:
        assert repo_id == "somebody/raga"
        for operation in operations:
            sent[operation.path_in_repo] = Path(operation.path_or_fileobj).read_bytes()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # PEFT would ask whether the base's vocabulary was changed
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: _Repository(repo_id))
    monkeypatch.setattr(HfApi, "create_commit", commit)
    monkeypatch.setattr(ModelCard, "load", refuse)
    base = fresh()
    model = get_peft_model(base.model, adapters.adapter_config(base.model, "conv@shallow:4k"))
    stir(model)
    model.push_to_hub("somebody/raga")
    assert set(sent) == FILES
    config = json.loads(sent["adapter_config.json"])
    assert (config["peft_type"], config["expression"]) == ("TALIM", "conv@shallow:4k")
    assert config["base_model_name_or_path"] == "tiny"  # and no path of this machine
    trained = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert 4 * trained < len(sent["adapter_model.safetensors"]) < 4 * trained + 4000  # nothing of the base


class _Repository:
    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id
