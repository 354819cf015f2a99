"""What anybody who uses PEFT can do: other models, the Trainer, the Hub, a new process, a kind of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    WhisperConfig,
    WhisperModel,
)

import talim.adapters as adapters
from talim.backbones.musicgen import MusicGen
from talim.designs import expression
from talim.designs.kinds import KINDS

DOC = Path(__file__).parents[2] / "docs" / "adapters.md"
OWN = ("linear", "conv", "transformer")
Fresh = Callable[..., MusicGen]


def llama(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
        eos_token_id=39,
    )
    model = LlamaForCausalLM(config).eval()
    for weight in model.parameters():
        weight.data.mul_(8)  # far from uniform, so that greedy choices are clear
    return model


def stir(model: torch.nn.Module) -> Any:
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in adapters.trainable_parameters(model):
            weight.add_(0.3 * torch.randn_like(weight))
    return model.eval()


def on_llama(kind: str) -> adapters.AdapterConfig:
    return adapters.AdapterConfig(kind=kind, width=6, target_modules=r"model\.layers\.\d+", causal=True)


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_language_model_decodes_with_and_without_cache_alike(kind: str, beams: int) -> None:
    model = stir(get_peft_model(llama(), on_llama(kind)))
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 2, 1]])
    made = [
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            num_beams=beams,
            use_cache=cached,
        )
        for cached in (True, False)
    ]
    assert torch.equal(*made)
    with model.disable_adapter():
        plain = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
    assert beams > 1 or not torch.equal(plain, made[0])


@pytest.mark.parametrize("kind", OWN)
def test_padding_on_the_left_is_not_heard(kind: str) -> None:
    model = stir(get_peft_model(llama(), on_llama(kind)))
    alone = torch.tensor([[5, 6, 7]])
    padded = torch.tensor([[0, 0, 0, 5, 6, 7], [9, 3, 2, 1, 4, 8]])
    mask = (padded != 0).long()
    with torch.no_grad():
        expected = model(input_ids=alone).logits
        found = model(
            input_ids=padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
        ).logits
    torch.testing.assert_close(found[:1, 3:], expected, atol=1e-4, rtol=0)
    one = model.generate(
        input_ids=alone, attention_mask=torch.ones_like(alone), max_new_tokens=9, do_sample=False
    )
    two = model.generate(input_ids=padded, attention_mask=mask, max_new_tokens=9, do_sample=False)
    assert torch.equal(one[0, 3:], two[0, 6 : 6 + one.shape[1] - 3])


@pytest.mark.parametrize("kind", OWN)
def test_an_encoder_sees_both_ways(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16}
    config = WhisperConfig(
        encoder_layers=2,
        decoder_layers=1,
        decoder_ffn_dim=16,
        num_mel_bins=8,
        max_source_positions=20,
        **sizes,
    )
    encoder = WhisperModel(config).encoder.eval()
    heard = torch.randn(1, 8, 40)
    plain = encoder(heard).last_hidden_state
    model = get_peft_model(
        encoder, adapters.AdapterConfig(kind=kind, width=6, target_modules=r"layers\.\d+", causal=False)
    )
    torch.testing.assert_close(model(heard).last_hidden_state, plain, atol=1e-5, rtol=0)
    stir(model)
    before = model(heard).last_hidden_state
    assert (before - plain).abs().max() > 0.01
    block = next(m for m in model.modules() if isinstance(m, KINDS[kind]))
    frames = torch.randn(1, 10, 16)
    later = frames.clone()
    later[:, 6:] += 1
    moved = (block(later) - block(frames)).abs().amax(-1)[0, :6]
    assert (moved.max() > 1e-6) == block.mixes_frames


def test_the_trainer_trains_saves_and_resumes(tmp_path: Path) -> None:
    rows = [{"input_ids": torch.tensor(r), "labels": torch.tensor(r)} for r in ([5, 6, 7, 8], [1, 2, 3, 4])]

    def run(steps: int, resume: bool) -> Any:
        model = get_peft_model(llama(), on_llama("conv"))
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=steps,
            save_steps=2,
            per_device_train_batch_size=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            learning_rate=1e-2,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=rows)
        trainer.train(resume_from_checkpoint=resume)
        return model

    run(2, False)
    assert (tmp_path / "out" / "checkpoint-2" / "adapter_model.safetensors").is_file()
    trained = run(4, True)
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "out" / "checkpoint-4")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, trained.eval()(ids).logits)


def test_what_would_go_to_the_hub(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from transformers.utils import hub

    sent: dict[str, list[str]] = {}

    def upload(self: Any, working_dir: str, repo_id: str, files_timestamps: Any, **_: Any) -> None:
        sent[repo_id] = sorted(path.name for path in Path(working_dir).iterdir())

    monkeypatch.setattr(hub.PushToHubMixin, "_upload_modified_files", upload)
    for place in (hub, huggingface_hub):
        monkeypatch.setattr(
            place, "create_repo", lambda repo_id, **_: type("Url", (), {"repo_id": repo_id})(), raising=False
        )
    base = fresh()
    model = get_peft_model(base.model, adapters.adapter_config(base.model, "conv@all:4k"))
    model.push_to_hub("somebody/raga", save_embedding_layers=False)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(sent["somebody/raga"])


def blocks_of_doc() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.S)


def test_the_ten_lines_of_the_docs(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = blocks_of_doc()[0]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    codes = torch.randint(32, (2 * 4, 9), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": torch.tensor([[10, 11, 1], [12, 13, 1]]),
        "attention_mask": torch.ones(2, 3, dtype=torch.long),
        "labels": codes.view(2, 4, 9).transpose(1, 2),
    }
    names: dict[str, Any] = {"BASE": str(base_folder), "BATCH": batch}
    exec(lines, names)
    model = names["model"].eval()
    ids = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = model.generate(**ids, max_length=20, do_sample=False, guidance_scale=3.0)
    torch.save(expected, tmp_path / "expected.pt")
    script = (
        "import torch, talim.adapters\n"
        "from peft import PeftModel\n"
        "from transformers import MusicgenForConditionalGeneration\n"
        f"base = MusicgenForConditionalGeneration.from_pretrained({str(base_folder)!r})\n"
        "base.config.decoder.decoder_start_token_id = base.config.decoder.pad_token_id\n"
        "model = PeftModel.from_pretrained(base, 'my-adapter').eval()\n"
        f"ids = dict(input_ids=torch.tensor({batch['input_ids'].tolist()}), attention_mask=torch.ones(2, 3).long())\n"
        "made = model.generate(**ids, max_length=20, do_sample=False, guidance_scale=3.0)\n"
        "assert torch.equal(made, torch.load('expected.pt', weights_only=True))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


@pytest.fixture
def decay() -> Any:
    """The kind that the docs make, registered for one test."""
    lines = next(block for block in blocks_of_doc() if "class Decay" in block)
    assert len(lines.splitlines()) < 40
    names: dict[str, Any] = {}
    exec(lines, names)
    yield names["Decay"]
    KINDS.pop("decay")
    expression.OWN_KINDS.remove("decay")


def test_a_kind_of_ones_own(decay: Any, fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    design = "decay@all:2k+linear@post:1k"
    model = adapters.attach(base.model, design, base.sites())
    counted = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert model.peft_config["adapter"].parameters() == counted
    assert abs(counted - 3000) < 60
    base.enable_training()
    tokens = np.random.default_rng(0).integers(0, 32, (4, 12)).astype(np.int16)
    batch = base.collate([(tokens, base.describe(["a"])[0])], [False])
    base.loss(batch).mean.backward()
    assert all(weight.grad is not None for weight in adapters.trainable_parameters(model))
    stir(model)
    expected = base.generate_tokens(["a", "long words"], 0.4, seed=1)
    adapters.save(model, tmp_path / "own", base={"name": base.name, "fingerprint": base.fingerprint})
    other = fresh()
    adapters.load(other, tmp_path / "own")
    assert np.array_equal(other.generate_tokens(["a", "long words"], 0.4, seed=1), expected)
    at_once = [decay(8, 4), torch.randn(2, 7, 8)]
    block, frames = at_once[0], at_once[1]
    torch.nn.init.normal_(block.up.weight)
    from talim.designs.streaming import Memory

    memory = Memory()
    streamed = torch.cat([block(frame, memory) for frame in frames.split(1, 1)], 1)
    torch.testing.assert_close(streamed, block(frames))


def test_names_of_kinds_are_taken_once(decay: Any) -> None:
    class Other(adapters.Kind):
        pass

    from talim.errors import UsageError

    for word in ("decay", "conv", "lora", "full"):
        with pytest.raises(UsageError, match="already the name"):
            adapters.register(word, Other)
    adapters.register("decay", decay)  # the same again is harmless
