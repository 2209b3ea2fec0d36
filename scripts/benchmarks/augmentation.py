#!/usr/bin/env python
"""Milliseconds of processor time a clip for what is done to pixels after the decoder, one core.

Clips of 16 x 128 x 171 frames, crops of 112, in batches; medians over the turns.

    python scripts/benchmarks/augmentation.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from benchmark_arguments import new_parser, positive
from torch import Tensor
from turns import in_turns

from video_snl.config.statistics import STATISTICS
from video_snl.config.video import DataConfig
from video_snl.data.transforms.augment import OPERATIONS, augment_clips, draw_augmentation
from video_snl.data.transforms.geometry import crop_clips, crop_scaled_clips, normalise

CROP, MAGNITUDE = 112, 9


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--batch", type=positive, default=8, help="clips (default: 8)")
    parser.add_argument("--turns", type=positive, default=15, help="of each (default: 15)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| | ms a clip |\n|---|---|")
    for name, mine in in_turns(works(options.batch), options.turns, warm=1).items():
        print(f"| {name} | {1e3 * statistics.median(mine.cpu) / options.batch:.2f} |")


def works(batch: int) -> dict[str, Callable[[], object]]:
    """Return the functions to time, by name, on one batch of noise."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 16, 128, 171, 3)
    video = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    size = torch.tensor([[128, 171]]).expand(batch, -1)
    place = video, size, torch.rand(batch, 2, generator=generator), torch.arange(batch) % 2 == 0
    cropped = crop_clips(*place, CROP)
    scale = drawn(batch, "scale", crop_scales=[1, 0.875, 0.75, 0.66])
    jitter = drawn(batch, "jitter", color_jitter=0.4)
    hue = drawn(batch, "jitter", color_jitter=0.4, hue_jitter=0.1)
    found: dict[str, Callable[[], object]] = {
        "crop and flip": lambda: crop_clips(*place, CROP),
        "normalise": lambda: normalise(cropped, *STATISTICS["kinetics"]),
        "multi-scale crop and flip": lambda: crop_scaled_clips(*place, scale, CROP),
        "colour jitter without hue": lambda: augment_clips(cropped, jitter, None, MAGNITUDE),
        "colour jitter with hue": lambda: augment_clips(cropped, hue, None, MAGNITUDE),
    }
    for number, name in enumerate(OPERATIONS):
        found[f"RandAugment: {name}"] = operation(cropped, number)
    return found


def drawn(batch: int, name: str, **options: float | list[float]) -> Tensor:
    """Draw for every clip of a batch what a sample draws with these options of ``data``."""
    config = DataConfig(**options)  # type: ignore[arg-type]
    return torch.stack(
        [draw_augmentation(config, np.random.default_rng(i))[name] for i in range(batch)]
    )


def operation(cropped: Tensor, number: int) -> Callable[[], object]:
    chosen = torch.tensor([[[float(number), 1.0]]]).expand(len(cropped), -1, -1)
    return lambda: augment_clips(cropped, None, chosen, MAGNITUDE)


if __name__ == "__main__":
    main()
