"""A proof, at the first step of a training, that bfloat16 convolutions on a CPU can be trained.

oneDNN (3.13.3, of PyTorch 2.15, on CPUs with AVX-512 for bfloat16) returns wrong weight gradients
of bfloat16 convolutions whose kernel reaches far beyond a short axis, such as a 3 x 3 x 3 kernel on
two frames: parts of the sum are left out, or hold what lay in memory, NaN included. The shapes that
it befalls follow no short rule, so each shape that a training meets is tried. float32 and float16
are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from video_snl.errors import UserError

__all__ = ["ProvenConvolutions", "weight_gradient_error"]

# Rounding to bfloat16 costs 0.4 % of the largest value at most; the fault a third and more.
_TOLERANCE = 0.05
_SAMPLES = 2  # The fault is the same in every size of a batch.


class ProvenConvolutions(Callback):
    """Tries the weight gradient of each convolution with the shapes of the first training batch.

    It draws from a generator of its own: the training's random numbers stay as they are.
    """

    def __init__(self) -> None:
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._tried: set[tuple[Any, ...]] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the convolutions whose weights train."""
        for name, module in pl_module.named_modules():
            if (
                isinstance(module, _ConvNd)
                and not module.transposed
                and module.weight.requires_grad
            ):
                self._handles.append(module.register_forward_hook(self._proving(name)))

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Watch no more: the first batch has met every convolution."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _proving(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.dtype != torch.bfloat16:
                return
            convolution, shape = cast(_ConvNd, module), tuple(inputs[0].shape)
            facts = (*shape[1:], *convolution.weight.shape, convolution.stride, convolution.padding)
            facts = (*facts, convolution.dilation, convolution.groups)
            if facts in self._tried:
                return
            self._tried.add(facts)
            if weight_gradient_error(convolution, inputs[0]) > _TOLERANCE:
                raise UserError(
                    f"trainer.precision=bf16-mixed: this CPU's library computes a wrong weight "
                    f"gradient for the convolution {name} ({_sizes(convolution.kernel_size)} on an "
                    f"input of {_sizes(shape[2:])}), so the training would go wrong in silence. "
                    "Use trainer.precision=32-true, a GPU, or more frames or pixels."
                )

        return hook


@torch.no_grad()
def weight_gradient_error(convolution: _ConvNd, x: Tensor) -> float:
    """Error of a convolution's weight gradient in bfloat16, relative to the largest value.

    The gradient for a random gradient of the output is compared with the same in float32, of the
    same rounded numbers.

    Args:
        convolution: The layer, of 1 to 3 axes, not transposed.
        x: An input, (B, C, ...); two samples of it are used.

    Returns:
        The largest absolute difference over the largest absolute value; infinity where the
        gradient in bfloat16 is not finite.
    """
    # Autograd is of no use here: within a unit that is recomputed, it would recompute the unit.
    with torch.autocast(x.device.type, enabled=False):
        x, weight = x[:_SAMPLES].bfloat16(), convolution.weight.bfloat16()
        output = convolution._conv_forward(x, weight, None)
        padding = convolution.padding
        if isinstance(padding, str) or convolution.padding_mode != "zeros":
            mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
            x = nn.functional.pad(x, convolution._reversed_padding_repeated_twice, mode)
            padding = (0,) * len(convolution.stride)
        generator = torch.Generator(x.device).manual_seed(0)
        gradient = torch.randn(output.shape, generator=generator, device=x.device).bfloat16()
        exact, found = (
            torch.ops.aten.convolution_backward(
                *(tensor.to(dtype) for tensor in (gradient, x, weight)),
                None,
                convolution.stride,
                padding,
                convolution.dilation,
                False,
                [0] * len(convolution.stride),
                convolution.groups,
                [False, True, False],
            )[1].float()
            for dtype in (torch.float32, torch.bfloat16)
        )
    error = (found - exact).abs().max() / exact.abs().max().clamp_min(torch.finfo().tiny)
    return float(error) if error.isfinite() else float("inf")


def _sizes(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
