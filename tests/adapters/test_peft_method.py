"""PEFT integration: language models, speech encoders, Trainer, Hub, new processes, the documented code."""

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
from fixtures.adapter_designs import randomize_adapter
from peft import PeftModel, get_layer_status, get_model_status, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from transformers import AutoModelForCausalLM

import talim.adapters as adapters
from talim.backbones.musicgen.backbone import MusicGen
from talim.design.adapter_kinds import KINDS
from talim.errors import TalimError, UsageError

LANGUAGE = {"llama": non_music_models.llama, "mistral": non_music_models.mistral}

IDS = torch.tensor([[5, 6, 7, 8, 2, 3], [9, 3, 2, 1, 4, 8]])

WIDTH = 6


def config_for(kind: str, causal: bool = True, **changes: Any) -> adapters.AdapterConfig:
    return adapters.AdapterConfig(
        **{"kind": kind, "width": WIDTH, "target_modules": non_music_models.BLOCKS, "causal": causal} | changes
    )


def randomized(base: Any, kind: str, **changes: Any) -> PeftModel:
    model = get_peft_model(base, config_for(kind, **changes))
    randomize_adapter(model)
    return model.eval()


def generate(model: Any, ids: torch.Tensor = IDS, mask: torch.Tensor | None = None, **options: Any) -> Any:
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=16, do_sample=False, **options)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", LANGUAGE)
def test_get_peft_model_starts_as_identity_with_exact_parameter_count(kind: str, name: str) -> None:
    base = LANGUAGE[name]()
    plain = base(IDS).logits
    model = get_peft_model(base, config_for(kind))
    torch.testing.assert_close(model(IDS).logits, plain, atol=1e-5, rtol=0)
    count = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert count == 2 * KINDS[kind].parameters_of(16, WIDTH)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str)
@pytest.mark.parametrize("name", LANGUAGE)
def test_generate_with_cache_equals_without(kind: str, name: str, options: dict[str, Any]) -> None:
    base = LANGUAGE[name]()
    beams = {"num_beams": options.get("num_beams", 1)}
    plain = generate(base, **beams)
    model = randomized(base, kind)
    tokens = generate(model, **options)
    assert torch.equal(tokens, generate(model, use_cache=False, **beams))
    assert not torch.equal(tokens, plain)


@pytest.mark.parametrize("name", LANGUAGE)
def test_generate_left_padded_batch_equals_single_prompts(kind: str, name: str) -> None:
    """Left padding of three tokens, then cached decoding."""
    model = randomized(LANGUAGE[name](), kind)
    alone = generate(model, IDS[:1, :3])
    padded = torch.cat([torch.cat([torch.zeros(1, 3, dtype=torch.long), IDS[:1, :3]], 1), IDS[1:]])
    together = generate(model, padded, (padded != 0).long())
    assert torch.equal(together[0, 6:], alone[0, 3:])
    assert torch.equal(together[1], generate(model, IDS[1:])[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_forward_left_padded_equals_unpadded(kind: str, attention: str) -> None:
    base = non_music_models.mistral()
    base.set_attn_implementation(attention)
    model = randomized(base, kind)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), IDS[:1]], 1)
    positions = torch.tensor([[0, 0, 0, 0, *range(6)]])
    logits = model(padded, attention_mask=(padded != 0).long(), position_ids=positions).logits[:, 4:]
    torch.testing.assert_close(logits, model(IDS[:1]).logits, atol=1e-4, rtol=0)


def test_backward_with_cache_or_checkpointing_gives_the_same_gradients(kind: str) -> None:
    """By default transformers passes a cache to every layer, but none with gradient checkpointing."""
    gradients, ids = [], IDS.repeat(1, 3)  # longer than one update of the excitation
    for cached, checkpointed in ((False, False), (True, False), (True, True)):
        model = randomized(non_music_models.llama(), kind).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        model(input_ids=ids, labels=ids, use_cache=cached).loss.backward()
        gradients.append([weight.grad for weight in adapters.trainable_parameters(model)])
    for plain, *others in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        for other in others:
            torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-4)


def test_whisper_encoder_with_non_causal_adapter_trains_saves_and_loads(kind: str, tmp_path: Path) -> None:
    encoder, features = non_music_models.whisper_encoder(), torch.randn(2, 8, 40)
    plain = encoder(features).last_hidden_state
    model = get_peft_model(encoder, config_for(kind, causal=False, target_modules=r"layers\.\d+"))
    torch.testing.assert_close(model(features).last_hidden_state, plain, atol=1e-5, rtol=0)
    randomize_adapter(model)
    adapted = model(features).last_hidden_state
    assert (adapted - plain).abs().max() > 0.1
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(non_music_models.whisper_encoder(), tmp_path)
    torch.testing.assert_close(again(features).last_hidden_state, adapted, atol=1e-5, rtol=0)
    block = next(module for module in model.modules() if isinstance(module, KINDS[kind]))
    states = torch.randn(1, 10, 16)
    later = torch.cat([states[:, :6], states[:, 6:] + 1], 1)
    assert torch.equal(block(states)[:, :6], block(later)[:, :6]) != block.uses_context


def test_generate_with_non_causal_adapter_and_cache_raises_talim_error(kind: str) -> None:
    model = randomized(non_music_models.llama(), kind, causal=False)
    tokens = generate(model, use_cache=False)
    if KINDS[kind].uses_context:
        with pytest.raises(TalimError, match="uses later frames"):
            generate(model)
    else:
        assert torch.equal(generate(model), tokens)
    assert model(IDS).logits.isfinite().all()  # a full forward works


def test_causal_adapter_at_a_module_without_cache_raises_usage_error(kind: str) -> None:
    config = config_for(kind, target_modules=r".*\.mlp")
    if KINDS[kind].uses_context:
        with pytest.raises(UsageError, match=r"LlamaMLP is not given the cache .*whole decoder blocks"):
            get_peft_model(non_music_models.llama(), config)
        return
    model = get_peft_model(non_music_models.llama(), config)
    randomize_adapter(model)
    assert torch.equal(generate(model), generate(model, use_cache=False))


DOC = Path(__file__).parents[2] / "docs" / "guides" / "peft.md"

FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors"}

Fresh = Callable[..., MusicGen]


def on_llama(kind: str = "conv") -> adapters.AdapterConfig:
    return adapters.AdapterConfig(kind=kind, width=6, target_modules=non_music_models.BLOCKS)


def code_in_docs(containing: str) -> str:
    """The one Python block of the page that contains a text."""
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
        if containing in block
    )
    return code


def run_in_new_process(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


LOAD_LLAMAS = """
import json, torch, talim.adapters
from peft import PeftModel
from transformers import LlamaForCausalLM
generated = {}
for kind in ("linear", "conv", "transformer"):
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained("base"), kind)
    tokens = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=12, do_sample=False)
    generated[kind] = tokens[0].tolist()
open("generated.json", "w").write(json.dumps(generated))
"""


def llamas(folder: Path) -> dict[str, list[int]]:
    """Save a base and an adapter of each kind; the tokens that each generates here."""
    non_music_models.llama().save_pretrained(folder / "base")
    generated = {}
    for kind in ("linear", "conv", "transformer"):
        model = get_peft_model(non_music_models.llama(), on_llama(kind))
        randomize_adapter(model)
        model.save_pretrained(folder / kind)
        tokens = model.eval().generate(torch.tensor([[5, 6, 7]]), max_new_tokens=12, do_sample=False)
        generated[kind] = tokens[0].tolist()
    assert len({tuple(tokens) for tokens in generated.values()}) == 3
    return generated


@pytest.mark.slow
def test_documented_code_in_a_new_process_generates_the_same(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented code trains and saves, loads and generates; likewise for a Llama with every kind."""
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
    randomize_adapter(model)  # a single step has too little effect
    model.save_pretrained("my-adapter")
    seeded = f"import torch\ntorch.manual_seed(0)\n{then}"
    exec(seeded, names)
    adapted = names["audio"]
    with names["model"].disable_adapter():
        torch.manual_seed(0)
        plain = names["model"].generate(**names["text"], max_new_tokens=250, guidance_scale=3.0)
    assert (adapted - plain).abs().max() > 5e-5  # a random codec decodes all tokens to similar audio
    expected = llamas(tmp_path)
    run_in_new_process(f"{seeded}\ntorch.save(audio, 'audio.pt')\n{LOAD_LLAMAS}", tmp_path)
    again = torch.load(tmp_path / "audio.pt", weights_only=True)
    torch.testing.assert_close(again, adapted, atol=1e-6, rtol=0)
    assert json.loads((tmp_path / "generated.json").read_text(encoding="utf-8")) == expected


def test_trainer_resumed_from_a_checkpoint_equals_uninterrupted_training(tmp_path: Path) -> None:
    """Three steps against two, a checkpoint and a third."""
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


def test_push_to_hub_sends_only_the_adapter_files(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
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
    randomize_adapter(model)
    model.push_to_hub("somebody/raga")
    assert set(sent) == FILES
    config = json.loads(sent["adapter_config.json"])
    assert config["peft_type"].startswith("TALIM: run `import talim.adapters` before")
    assert config["design"] == "conv@shallow:4k"
    assert config["base_model_name_or_path"] == "./tiny"  # no local path, and no name on the Hub
    trained = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert 4 * trained < len(sent["adapter_model.safetensors"]) < 4 * trained + 4000  # without the base


class _Repository:
    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id


# Everything that PEFT and transformers do with an adapter


def stored_conv(folder: Path, seed: int = 0, **changes: Any) -> torch.Tensor:
    """Save a conv adapter of the Llama with random weights; its logits."""
    base = non_music_models.llama()
    model = get_peft_model(base, config_for("conv", **changes))
    randomize_adapter(model, seed=seed)
    logits = model.eval()(IDS).logits.detach()
    model.save_pretrained(folder)
    return logits


def test_native_load_switch_disable_and_delete(tmp_path: Path) -> None:
    first, second = stored_conv(tmp_path / "a"), stored_conv(tmp_path / "b", seed=1)
    model: Any = non_music_models.llama()
    plain = model(IDS).logits
    model.load_adapter(str(tmp_path / "a"), "a")
    model.load_adapter(str(tmp_path / "b"), "b")
    for name, logits in (("a", first), ("b", second), ("a", first)):
        model.set_adapter(name)
        torch.testing.assert_close(model(IDS).logits, logits, atol=1e-5, rtol=0)
    model.disable_adapters()
    torch.testing.assert_close(model(IDS).logits, plain, atol=1e-5, rtol=0)
    model.enable_adapters()
    model.delete_adapter("b")
    torch.testing.assert_close(model(IDS).logits, first, atol=1e-5, rtol=0)
    model.delete_adapter("a")
    torch.testing.assert_close(model(IDS).logits, plain, atol=1e-5, rtol=0)


def test_native_add_save_and_from_pretrained_of_the_adapter_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called as a public model is found beside the caller, never on the Hub."""
    monkeypatch.chdir(tmp_path)
    non_music_models.llama().save_pretrained("gpt2")
    model: Any = AutoModelForCausalLM.from_pretrained("gpt2")
    wrapped = get_peft_model(model, config_for("conv"))
    randomize_adapter(wrapped)
    logits = wrapped.eval()(IDS).logits
    wrapped.save_pretrained("adapter")
    assert json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "./gpt2"
    card = Path("adapter/README.md").read_text(encoding="utf-8")
    assert "base_model" not in card.split("---")[1]
    assert "run `import talim.adapters` before PEFT loads it" in card
    again = AutoModelForCausalLM.from_pretrained("adapter")
    torch.testing.assert_close(again(IDS).logits, logits, atol=1e-5, rtol=0)
    native: Any = non_music_models.llama()
    native.add_adapter(config_for("conv"), "mine")
    randomize_adapter(native)
    logits = native.eval()(IDS).logits
    native.save_pretrained("native")
    again = non_music_models.llama()
    again.load_adapter("native")
    torch.testing.assert_close(again(IDS).logits, logits, atol=1e-5, rtol=0)


def test_model_and_layer_status_name_the_method(tmp_path: Path) -> None:
    model = randomized(non_music_models.llama(), "conv")
    status = get_model_status(model)
    assert status.peft_types == {"default": "TALIM"}
    assert (status.num_adapter_layers, status.enabled, status.merged_adapters) == (2, True, [])
    assert [layer.module_type for layer in get_layer_status(model)] == ["AdapterLayer"] * 2


def test_hotswap_and_mixed_models_are_refused_in_a_line(tmp_path: Path) -> None:
    stored_conv(tmp_path)
    model = randomized(non_music_models.llama(), "conv")
    with pytest.raises(ValueError, match="Hotswapping only supports LORA but TALIM was passed"):
        hotswap_adapter(model, str(tmp_path), "default")
    with pytest.raises(ValueError, match="'TALIM' is not compatible with the `PeftMixedModel`"):
        get_peft_model(non_music_models.llama(), config_for("conv"), mixed=True)


@pytest.mark.parametrize("changes", [{}, {"task_type": "CAUSAL_LM"}, {"modules_to_save": ["lm_head"]}], ids=str)
@pytest.mark.parametrize("native", [False, True])
def test_saved_means_loadable(tmp_path: Path, changes: dict[str, Any], native: bool) -> None:
    logits = stored_conv(tmp_path, **changes)
    model: Any = non_music_models.llama()
    if native:
        model.load_adapter(str(tmp_path))
    else:
        model = PeftModel.from_pretrained(model, tmp_path)
    torch.testing.assert_close(model(IDS).logits, logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [40, 57])
def test_saved_embeddings_of_a_resized_vocabulary_are_loaded(tmp_path: Path, rows: int) -> None:
    def resized() -> Any:
        model = non_music_models.llama()
        model.resize_token_embeddings(rows)
        return model

    model = get_peft_model(resized(), config_for("conv"))
    randomize_adapter(model)
    logits = model.eval()(IDS).logits
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    again = PeftModel.from_pretrained(resized(), tmp_path)
    torch.testing.assert_close(again(IDS).logits, logits, atol=1e-6, rtol=0)


def test_disable_adapter_keeps_the_flags_of_frozen_adapters(kind: str) -> None:
    model = get_peft_model(non_music_models.llama(), config_for(kind))
    model.add_adapter("second", config_for(kind))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    with model.disable_adapter():
        model(IDS)
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == trained
    model.requires_grad_(False)
    with model.disable_adapter():
        model(IDS)
    assert adapters.trainable_parameters(model) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_adapter_dtype_false_keeps_the_dtype_of_the_base(kind: str, dtype: torch.dtype) -> None:
    model = get_peft_model(non_music_models.llama().to(dtype), config_for(kind), autocast_adapter_dtype=False)
    assert {weight.dtype for weight in adapters.trainable_parameters(model)} == {dtype}
    assert model(IDS).logits.isfinite().all()
    model.add_adapter("second", config_for(kind))
    assert {w.dtype for n, w in model.named_parameters() if ".second." in n} == {torch.float32}


LOAD_WITHOUT_TALIM = """
import sys, torch
from peft import PeftConfig, PeftModel
try:
    PeftModel.from_pretrained(torch.nn.Linear(2, 2), sys.argv[1])
except KeyError as error:
    print(f"KeyError: {error}", file=sys.stderr)
PeftConfig.from_pretrained(sys.argv[1])
"""


@pytest.mark.slow
def test_loading_without_talim_says_what_to_import(tmp_path: Path) -> None:
    stored_conv(tmp_path)
    command = [sys.executable, "-c", LOAD_WITHOUT_TALIM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = "KeyError: 'TALIM: run `import talim.adapters` before loading this adapter'"
    lines = done.stderr.strip().splitlines()
    assert [line for line in lines if line.startswith("KeyError")] == [message, message]
    assert lines[-1] == message
