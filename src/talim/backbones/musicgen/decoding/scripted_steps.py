"""A step through the layers of a decoder on a CPU as one call of TorchScript: the same operations, with the same bits.

In a small base, what Python itself does between some twenty operations a layer takes a tenth of a step and more.
Adapters are called from inside, as an operation: to leave TorchScript behind each layer and to enter it again takes
another tenth (docs/reports/performance.md). TorchScript is deprecated, but nothing else runs a list of operations
without a compiler on the user's machine. Where it is gone, `layer_steps` calls the operations one by one.
"""

# TorchScript reads annotations as types, not as text: no `from __future__ import annotations`

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Adapt = Callable[[Tensor, Any], Tensor]  # a layer's output [R, D], moment of the step -> with the adapters' residuals


class ScriptedLayers:
    """Layers as one call. `norms` and `weights` are those of each, as in `_Layers`; `adapt` is None without adapters.

    RuntimeError, AttributeError or OSError where there is no TorchScript.
    """

    def __init__(
        self,
        norms: Sequence[list[Tensor]],
        weights: Sequence[list[Tensor]],
        eps: float,
        heads: int,
        adapt: Sequence[Adapt | None],
    ) -> None:
        self.adapt = adapt
        self.moment: Any = None  # of the step under way
        self.error: BaseException | None = None  # of an adapter in it
        number = next(_numbers)
        _scripted[number] = self
        adapted = [each is not None for each in adapt]
        self.module = torch.jit.script(_Layers([*norms], [*weights], eps, heads, adapted, number))
        self._run = self.module.forward

    def use(self, pasts: list[Tensor], text_keys: list[Tensor], text_values: list[Tensor]) -> None:
        """Take these buffers, each a list with that of every layer (`LayerStep`)."""
        self.module.pasts, self.module.text_keys, self.module.text_values = pasts, text_keys, text_values

    def step(
        self,
        states: Tensor,
        place: int,
        seen: tuple[int, int],
        mask: Tensor | None,
        text_mask: Tensor | None,
        moment: Any,
    ) -> Tensor:
        """States [R, D] of one frame -> the last layer's output [R, D]; the first rows have a text.

        Keys and values are written to `place`; those from `seen[0]` to before `seen[1]` are attended to where `mask`
        is true.
        """
        self.moment = moment
        states = self._run(states, place, *seen, mask, text_mask)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return states

    def _adapt(self, number: int, states: Tensor) -> None:
        """Add the residuals of a layer to its output, in place."""
        adapt = self.adapt[number]
        if self.error is not None or adapt is None:
            return
        try:
            adapted = adapt(states, self.moment)
            if adapted is not states:
                states.copy_(adapted)
        except BaseException as error:  # TorchScript would make a RuntimeError of any, of Ctrl-C too
            self.error = error


def scripted_layers(*arguments: Any) -> ScriptedLayers | None:
    """`ScriptedLayers` of these arguments; None where this PyTorch has no TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return ScriptedLayers(*arguments)
        except (AttributeError, RuntimeError, OSError):  # OSError: without its source
            return None


# an operation takes no object, but the number of one
_numbers = itertools.count()
_scripted: WeakValueDictionary[int, ScriptedLayers] = WeakValueDictionary()
_library = torch.library.Library("talim", "FRAGMENT")
_library.define("adapt(Tensor(a!) states, int scripted, int layer) -> ()")
_library.impl("adapt", lambda states, scripted, layer: _scripted[scripted]._adapt(layer, states), "CPU")


class _Layers(nn.Module):
    """What is compiled. What does not change from step to step is an attribute: a list as an argument is copied."""

    norms: list[list[Tensor]]  # of each layer weight and bias of three
    # packed, of queries, keys and values together, of the output, of the text's queries and output, and of the
    # feed-forward, with GELU
    weights: list[list[Tensor]]
    pasts: list[Tensor]
    text_keys: list[Tensor]
    text_values: list[Tensor]
    adapted: list[bool]

    def __init__(
        self,
        norms: list[list[Tensor]],
        weights: list[list[Tensor]],
        eps: float,
        heads: int,
        adapted: list[bool],
        number: int,
    ) -> None:
        super().__init__()
        self.norms, self.weights, self.eps, self.heads = norms, weights, eps, heads
        self.pasts, self.text_keys, self.text_values = [], [], []
        self.adapted, self.number = adapted, number

    def forward(
        self, states: Tensor, place: int, start: int, stop: int, mask: Tensor | None, text_mask: Tensor | None
    ) -> Tensor:
        """As `ScriptedLayers.step`."""
        rows, width = states.shape[0], states.shape[1]
        for i in range(len(self.weights)):
            norm, weight, past = self.norms[i], self.weights[i], self.pasts[i]
            normed = torch.layer_norm(states, [width], norm[0], norm[1], self.eps, False)
            packed = torch.ops.mkldnn._linear_pointwise(normed, weight[0], None, "none", [], "")
            packed = packed.view([rows, 3, self.heads, 1, width // self.heads])
            past.narrow(3, place, 1).copy_(packed.narrow(1, 1, 2))
            seen = past.narrow(3, start, stop - start)
            attended = F.scaled_dot_product_attention(packed.select(1, 0), seen.select(1, 0), seen.select(1, 1), mask)
            states = torch.ops.mkldnn._linear_pointwise(attended.flatten(1), states, weight[1], None, "add")
            with_text = self.text_keys[i].shape[0]
            own = states.narrow(0, 0, with_text)
            normed = torch.layer_norm(own, [width], norm[2], norm[3], self.eps, False)
            query = torch.ops.mkldnn._linear_pointwise(normed, weight[2], None, "none", [], "")
            query = query.view([with_text, self.heads, 1, width // self.heads])
            attended = F.scaled_dot_product_attention(query, self.text_keys[i], self.text_values[i], text_mask)
            own.copy_(torch.ops.mkldnn._linear_pointwise(attended.flatten(1), own, weight[3], None, "add"))
            normed = torch.layer_norm(states, [width], norm[4], norm[5], self.eps, False)
            hidden = torch.ops.mkldnn._linear_pointwise(normed, weight[4], None, "gelu", [], "none")
            states = torch.ops.mkldnn._linear_pointwise(hidden, states, weight[5], None, "add")
            if self.adapted[i]:
                torch.ops.talim.adapt(states, self.number, i)
        return states
