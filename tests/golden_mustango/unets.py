"""The U-Net, case by case, in float32 and float64, and what its parts say on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from talim.backbones.mustango.unet import CrossAttentionContext, DownBlock, MusicUNet
from talim.backbones.mustango.unet_config import UNetConfig
from tests.golden_mustango.cases import Check, Golden, Parts, compare, prefixes

CONTEXTS = (
    ("encoder_hidden_states", "encoder_attention_mask"),
    ("beat_features", "beat_attention_mask"),
    ("chord_features", "chord_attention_mask"),
)
F64_TOLERANCE = 1e-7


def load(golden: Golden, name: str, **changes: Any) -> MusicUNet:
    """The U-Net called `name`, with its configuration changed where a test wants it wrong."""
    unet = MusicUNet(UNetConfig.of(golden.json(f"{name}_config.json") | changes)).eval()
    unet.load_state_dict(golden.tensors(f"{name}.safetensors"))
    return unet


def case_inputs(tensors: dict[str, Tensor], case: str, dtype: torch.dtype) -> list[Tensor | None]:
    """The arguments of forward, in its order."""

    def get(name: str) -> Tensor | None:
        found = tensors.get(f"{case}.in.{name}")
        return found.to(dtype) if found is not None and found.is_floating_point() else found

    return [get("sample"), get("timestep"), *(get(token) for token, _ in CONTEXTS), *(get(m) for _, m in CONTEXTS)]


def tolerance(tensors: dict[str, Tensor], case: str) -> float:
    """1e-5; 1e-3 where float32 cannot do better: a row without a valid key, or almost no signal."""
    masks = [tensors.get(f"{case}.in.{mask}") for _, mask in CONTEXTS]
    blind = any(mask is not None and not mask.any(dim=1).all() for mask in masks)
    faint = tensors[f"{case}.in.sample"].abs().max().item() < 1e-2
    return 1e-3 if blind or faint else 1e-5


@torch.no_grad()
def cases(golden: Golden, name: str, unet: MusicUNet) -> Iterator[Check]:
    """All cases of one U-Net, in both precisions."""
    if not golden.has(f"{name}_cases.safetensors"):
        return
    tensors = golden.tensors(f"{name}_cases.safetensors")
    for case in prefixes(tensors, ".in."):
        for dtype, suffix in ((torch.float32, ""), (torch.float64, "_float64")):
            expected = tensors.get(f"{case}.out.sample{suffix}")
            if expected is None:
                continue
            made = unet.to(dtype)(*case_inputs(tensors, case, dtype))
            allowed = F64_TOLERANCE if suffix else tolerance(tensors, case)
            yield compare(f"{name} {case}{suffix}", made, expected, allowed)
    unet.float()


@torch.no_grad()
def intermediates(golden: Golden, name: str, unet: MusicUNet) -> Iterator[Check]:
    """Outputs of the parts, under their module names."""
    for path in sorted(golden.folder.glob(f"{name}_intermediates_*.safetensors")):
        case = path.stem.removeprefix(f"{name}_intermediates_")
        expected, heard = golden.tensors(path.name), {}

        def listen(part: str, heard: dict[str, Tensor] = heard) -> Callable[..., None]:
            return lambda _module, _inputs, output: heard.__setitem__(part, output)

        hooks = [unet.get_submodule(part).register_forward_hook(listen(part)) for part in expected]
        unet(*case_inputs(golden.tensors(f"{name}_cases.safetensors"), case, torch.float32))
        for hook in hooks:
            hook.remove()
        for part, theirs in expected.items():
            ours = heard[part]
            whole = ours if isinstance(ours, Tensor) else ours[-1]  # a level on the way down returns its skips
            yield compare(f"{name} {case} {part}", whole, theirs, 1e-5 * max(1.0, theirs.abs().max().item()))


def first_level(golden: Golden, name: str) -> tuple[DownBlock, dict[str, Tensor]]:
    """The finest level of a U-Net alone, and what goes through it."""
    tensors = golden.tensors(f"{name}_down0.safetensors")
    block = DownBlock(UNetConfig.of(golden.json(f"{name}_config.json")), 0).eval()
    block.load_state_dict({key[2:]: tensor for key, tensor in tensors.items() if key.startswith("w.")})
    return block, tensors


@torch.no_grad()
def level_checks(block: DownBlock, tensors: dict[str, Tensor], name: str) -> Iterator[Check]:
    """A ResNet, a whole site, and the way down to the next level."""
    given = {key[3:]: tensor for key, tensor in tensors.items() if key.startswith("in.")}
    contexts = [CrossAttentionContext.of(given[token], given[mask], torch.float32) for token, mask in CONTEXTS]
    first = block.resnets[0](given["hidden"], given["time"])
    yield compare(f"{name} resnet", first, tensors["out.resnets.0"], 1e-5)
    *sites, half = block(given["hidden"], given["time"], contexts)
    yield compare(f"{name} site", sites[-1], tensors["out.attentions3.0"], 1e-5)
    yield compare(f"{name} half", half, tensors["out.downsamplers.0"], 1e-5)


def sinusoids(golden: Golden, name: str, **changes: Any) -> Check:
    """What the noise level becomes before anything learned."""
    tensors = golden.tensors(f"{name}_down0.safetensors")
    config = UNetConfig.of(golden.json(f"{name}_config.json") | changes)
    waves = MusicUNet(config).time_proj(tensors["in.timestep"].reshape(-1))
    return compare(f"{name} noise level", waves, tensors["out.time_proj"], 1e-5)


def all_checks(golden: Golden) -> Parts:
    """Every U-Net of the folder, whole or its first level alone."""
    for name in golden.unets:
        unet = load(golden, name)
        yield name, cases(golden, name, unet)
        yield f"{name}, inside", intermediates(golden, name, unet)
    for path in sorted(golden.folder.glob("*_down0.safetensors")):
        name = path.name.removesuffix("_down0.safetensors")
        yield f"{name}, first level", level_checks(*first_level(golden, name), name)
        yield f"{name}, noise level", iter([sinusoids(golden, name)])
