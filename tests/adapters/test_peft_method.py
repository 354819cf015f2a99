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
from fixtures import non_music_models
from fixtures.adapter_designs import stir
from peft import PeftModel, get_peft_model

import talim.adapters as adapters
from talim.backbones.musicgen.backbone import MusicGen
from talim.designs.kinds import KINDS
from talim.errors import TalimError, UsageError

LANGUAGE = {"llama": non_music_models.llama, "mistral": non_music_models.mistral}

IDS = torch.tensor([[5, 6, 7, 8, 2, 3], [9, 3, 2, 1, 4, 8]])

WIDTH = 6


def config_for(kind: str, causal: bool = True, **changes: Any) -> adapters.AdapterConfig:
    return adapters.AdapterConfig(
        **{"kind": kind, "width": WIDTH, "target_modules": non_music_models.BLOCKS, "causal": causal}
        | changes
    )


def taught(base: Any, kind: str, **changes: Any) -> PeftModel:
    model = get_peft_model(base, config_for(kind, **changes))
    stir(model)
    return model.eval()


def generate(model: Any, ids: torch.Tensor = IDS, mask: torch.Tensor | None = None, **asked: Any) -> Any:
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=16, do_sample=False, **asked)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", LANGUAGE)
def test_it_starts_as_the_base_and_counts_exactly(kind: str, name: str) -> None:
    base = LANGUAGE[name]()
    plain = base(IDS).logits
    model = get_peft_model(base, config_for(kind))
    torch.testing.assert_close(model(IDS).logits, plain, atol=1e-5, rtol=0)
    counted = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert counted == 2 * KINDS[kind].parameters_of(16, WIDTH)


@pytest.mark.parametrize("asked", [{}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str)
@pytest.mark.parametrize("name", LANGUAGE)
def test_cached_generation_equals_uncached(kind: str, name: str, asked: dict[str, Any]) -> None:
    base = LANGUAGE[name]()
    beams = {"num_beams": asked.get("num_beams", 1)}
    plain = generate(base, **beams)
    model = taught(base, kind)
    made = generate(model, **asked)
    assert torch.equal(made, generate(model, use_cache=False, **beams))
    assert not torch.equal(made, plain)


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_padded_batch_equals_each_alone(kind: str, name: str) -> None:
    """Left padding of three words, and then decoding with a cache."""
    model = taught(LANGUAGE[name](), kind)
    alone = generate(model, IDS[:1, :3])
    padded = torch.cat([torch.cat([torch.zeros(1, 3, dtype=torch.long), IDS[:1, :3]], 1), IDS[1:]])
    together = generate(model, padded, (padded != 0).long())
    assert torch.equal(together[0, 6:], alone[0, 3:])
    assert torch.equal(together[1], generate(model, IDS[1:])[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_is_not_heard_in_one_forward(kind: str, attention: str) -> None:
    base = non_music_models.mistral()
    base.set_attn_implementation(attention)
    model = taught(base, kind)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), IDS[:1]], 1)
    positions = torch.tensor([[0, 0, 0, 0, *range(6)]])
    heard = model(padded, attention_mask=(padded != 0).long(), position_ids=positions).logits[:, 4:]
    torch.testing.assert_close(heard, model(IDS[:1]).logits, atol=1e-4, rtol=0)


def test_gradients_with_a_cache_and_with_checkpointing(kind: str) -> None:
    """transformers hands a cache to every layer unless told otherwise, and none while it checkpoints."""
    found, ids = [], IDS.repeat(1, 3)  # longer than a stretch of an excitation
    for cached, checkpointed in ((False, False), (True, False), (True, True)):
        model = taught(non_music_models.llama(), kind).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        model(input_ids=ids, labels=ids, use_cache=cached).loss.backward()
        found.append([weight.grad for weight in adapters.trainable_parameters(model)])
    for plain, *others in zip(*found, strict=True):
        assert plain.abs().max() > 0
        for other in others:
            torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-4)


def test_an_encoder_of_speech(kind: str, tmp_path: Path) -> None:
    encoder, heard = non_music_models.whisper_encoder(), torch.randn(2, 8, 40)
    plain = encoder(heard).last_hidden_state
    model = get_peft_model(encoder, config_for(kind, causal=False, target_modules=r"layers\.\d+"))
    torch.testing.assert_close(model(heard).last_hidden_state, plain, atol=1e-5, rtol=0)
    stir(model)
    said = model(heard).last_hidden_state
    assert (said - plain).abs().max() > 0.1
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(non_music_models.whisper_encoder(), tmp_path)
    torch.testing.assert_close(again(heard).last_hidden_state, said, atol=1e-5, rtol=0)
    block = next(module for module in model.modules() if isinstance(module, KINDS[kind]))
    states = torch.randn(1, 10, 16)
    later = torch.cat([states[:, :6], states[:, 6:] + 1], 1)
    assert torch.equal(block(states)[:, :6], block(later)[:, :6]) != block.uses_context


def test_an_adapter_that_looks_ahead_does_not_decode_step_by_step(kind: str) -> None:
    model = taught(non_music_models.llama(), kind, causal=False)
    made = generate(model, use_cache=False)
    if KINDS[kind].uses_context:
        with pytest.raises(TalimError, match="looks at later frames"):
            generate(model)
    else:
        assert torch.equal(generate(model), made)
    assert model(IDS).logits.isfinite().all()  # one forward is no decoding, cache or not


def test_where_no_cache_is_heard_nothing_can_be_remembered(kind: str) -> None:
    inside = config_for(kind, target_modules=r".*\.mlp")
    if KINDS[kind].uses_context:
        with pytest.raises(UsageError, match=r"LlamaMLP is not given the cache .*whole decoder blocks"):
            get_peft_model(non_music_models.llama(), inside)
        return
    model = get_peft_model(non_music_models.llama(), inside)
    stir(model)
    assert torch.equal(generate(model), generate(model, use_cache=False))


@pytest.mark.parametrize("missing", ["kind", "width", "target_modules"])
def test_an_incomplete_configuration_says_what_it_needs(missing: str) -> None:
    with pytest.raises(UsageError, match="kind .* is unknown" if missing == "kind" else "needs kind, width"):
        adapters.AdapterConfig(**{"kind": "conv", "width": 6, "target_modules": "a", missing: None})
    with pytest.raises(UsageError, match="has no setting depth"):
        get_peft_model(non_music_models.llama(), config_for("conv", settings={"depth": 2}))


def test_settings_reach_the_kind() -> None:
    model = get_peft_model(
        non_music_models.llama(), config_for("conv", settings={"kernel": 2, "dilations": [1]})
    )
    counted = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert counted == 2 * KINDS["conv"].parameters_of(16, WIDTH, kernel=2, dilations=(1,))


DOC = Path(__file__).parents[2] / "docs" / "adapters.md"

FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors"}

Fresh = Callable[..., MusicGen]


def on_llama(kind: str = "conv") -> adapters.AdapterConfig:
    return adapters.AdapterConfig(kind=kind, width=6, target_modules=non_music_models.BLOCKS)


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
    non_music_models.llama().save_pretrained(folder / "base")
    made = {}
    for kind in ("linear", "conv", "transformer"):
        model = get_peft_model(non_music_models.llama(), on_llama(kind))
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
        model = get_peft_model(non_music_models.llama(), on_llama())
        Trainer(model=model, args=arguments, train_dataset=rows).train(resume_from_checkpoint=resume)
        return {name: weight.detach().clone() for name, weight in model.named_parameters() if "talim" in name}

    whole = trained("whole", 3)
    half = trained("half", 2)
    assert {path.name for path in (tmp_path / "half" / "checkpoint-2").iterdir()} >= FILES
    resumed = trained("half", 3, resume=True)
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight)
    assert any(not torch.equal(half[name], weight) for name, weight in whole.items())
    loaded = PeftModel.from_pretrained(non_music_models.llama(), str(tmp_path / "half" / "checkpoint-3"))
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
