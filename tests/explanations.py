"""Explanations made up for tests of the page: of any size, without a network."""

from __future__ import annotations

import numpy as np

from video_snl.analysis.explain.structure import BlockMaps, Explanation, Grid

KINDS = ("affinity", "affinity^2", "affinity^3", "sensitivity")


def block_maps(
    grid: Grid = (2, 7, 7),
    *,
    position: str = "before:res4.5",
    unit: int = 0,
    block: str = "snl",
    kinds: tuple[str, ...] = KINDS,
    seed: int = 0,
    signed: bool = False,
) -> BlockMaps:
    """Maps of random weights, most of them small, on a grid that is shown in full."""
    random = np.random.default_rng(seed)
    n = grid[0] * grid[1] * grid[2]
    maps = {kind: random.random((n, n)) ** 4 / (number + 1) for number, kind in enumerate(kinds)}
    if signed:
        maps = {kind: values - 0.7 for kind, values in maps.items()}
    return BlockMaps(
        position=position,
        unit=unit,
        block=block,
        grid=grid,
        full_grid=grid,
        maps={kind: values.astype(np.float32) for kind, values in maps.items()},
        before=random.uniform(3, 9, grid).astype(np.float32),
        after=random.uniform(4, 12, grid).astype(np.float32),
    )


def frames(count: int = 16, height: int = 112, width: int = 112) -> np.ndarray:
    """A bright square that moves over a gradient: uint8 (T, H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    ground = np.stack([rows * 160 // height, columns * 160 // width, 90 + 0 * rows], axis=-1)
    clip = np.repeat(ground[None].astype(np.uint8), count, axis=0)
    side = max(2, min(height, width) // 4)
    for number, frame in enumerate(clip):
        left = number * (width - side) // max(count - 1, 1)
        frame[height // 3 : height // 3 + side, left : left + side] = (250, 220, 60)
    return clip


def explanation(
    *blocks: BlockMaps,
    checkpoint: str = "runs/snl/checkpoints/best.ckpt",
    clip: np.ndarray | None = None,
    notes: tuple[str, ...] = (),
    gradcam: bool = True,
) -> Explanation:
    """Explain one clip, with Grad-CAM highest in frame 5, row 2, column 4 of 7 x 7."""
    shown = frames() if clip is None else clip
    cam = np.full((len(shown), 7, 7), 0.25, np.float32)
    cam[min(5, len(shown) - 1), 2, 4] = 1
    return Explanation(
        source="videos/square.avi",
        checkpoint=checkpoint,
        frames=shown,
        classes=[("AllMatch", 0.61), ("TwoMatch", 0.24), ("NoneMatch", 0.1), ("ThreeMatch", 0.05)],
        gradcam=cam if gradcam else None,
        blocks=list(blocks),
        notes=list(notes),
    )
