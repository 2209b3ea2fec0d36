"""Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of a batch, on its device.

A clip's partner is its neighbour in the batch, whose order is random already. What is drawn is a
function of (seed, epoch, step, rank), and is drawn on the host: nothing waits for a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from video_snl.config.video import OptimizerConfig
from video_snl.data.loading.samplers import step_generator
from video_snl.errors import OptionsError

__all__ = ["Mix", "check_mixing", "draw_mix", "mix_clips", "mix_labels"]


@dataclass(frozen=True)
class Mix:
    """Mixture of the clips of a batch with their partners.

    Args:
        share: Share of its own label that a clip keeps, in [0, 1].
        box: Top, bottom, left and right of the rectangle that is the partner's, in all frames
            (half-open); None where every pixel is mixed.
    """

    share: float
    box: tuple[int, int, int, int] | None = None


def check_mixing(config: OptimizerConfig, clips: int) -> None:
    """Refuse parameters that no Beta distribution has, and batches with nothing to mix.

    Args:
        clips: Number of clips that one device takes at once.

    Raises:
        OptionsError: It names the option and its range.
    """
    for name in ("mixup", "cutmix"):
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise OptionsError(
                f"optimizer.{name}={value}: give the parameter of its Beta distribution, above 0, "
                "or 0 for none"
            )
        if value and clips < 2:
            raise OptionsError(
                f"optimizer.{name} mixes the clips that a device takes at once, and here it takes "
                "one: raise optimizer.batch_size, or lower optimizer.accumulate"
            )


def draw_mix(
    config: OptimizerConfig, side: int, *, seed: int, epoch: int, step: int, rank: int
) -> Mix | None:
    """Draw what happens to the batch of a step; None where nothing is asked for.

    Args:
        side: Height and width of the clips, in pixels.
        rank: Rank of the process; each draws its own.
    """
    if not config.mixup and not config.cutmix:
        return None
    random = step_generator(seed, epoch, step, rank)
    cut = bool(config.cutmix) and (not config.mixup or random.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    share = float(random.beta(alpha, alpha))
    if not cut:
        return Mix(share)
    row, column = random.integers(side, size=2).tolist()
    reach = int(side * math.sqrt(1 - share) / 2)
    box = (
        max(row - reach, 0),
        min(row + reach, side),
        max(column - reach, 0),
        min(column + reach, side),
    )
    area = (box[1] - box[0]) * (box[3] - box[2])
    return Mix(1 - area / side**2, box)


def mix_clips(clips: Tensor, mix: Mix) -> Tensor:
    """Mix every clip with the one before it in the batch (the first with the last).

    Shapes: (B, C, T, h, w) -> the same, in the same memory layout.
    """
    partner = torch.cat([clips[-1:], clips[:-1]])
    if mix.box is None:
        return partner.lerp_(clips, mix.share)
    top, bottom, left, right = mix.box
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = partner[..., top:bottom, left:right]
    return mixed


def mix_labels(label: Tensor, classes: int, mix: Mix) -> Tensor:
    """Return the labels of the mixed clips as probabilities: (B,) -> float32 (B, classes)."""
    own = functional.one_hot(label, classes).float()
    return own.roll(1, 0).lerp_(own, mix.share)
