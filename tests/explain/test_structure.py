"""Which frames and pixels a position stands for, and what is shown of a large feature map."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_snl.analysis.explain.maps import pooled, positions_limit
from video_snl.analysis.explain.positions import corresponding
from video_snl.analysis.explain.structure import (
    BlockMaps,
    box_of,
    cells,
    flat_index,
    query_index,
    shown_grid,
)

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


@pytest.mark.parametrize(
    ("at", "grid", "frames", "box"),
    [
        ((0, 0, 0), (2, 7, 7), (16, 112, 112), (0, 8, 0, 16, 0, 16)),
        ((1, 6, 3), (2, 7, 7), (16, 112, 112), (8, 16, 96, 112, 48, 64)),
        ((2, 0, 1), (4, 1, 2), (4, 10, 5), (2, 3, 0, 10, 2, 5)),
        ((1, 0, 0), (3, 1, 1), (8, 4, 4), (2, 5, 0, 4, 0, 4)),
        ((1, 0, 0), (2, 1, 1), (1, 4, 4), (0, 1, 0, 4, 0, 4)),
        ((0, 3, 5), (1, 8, 8), (1, 32, 32), (0, 1, 12, 16, 20, 24)),
    ],
)
def test_a_position_stands_for_frames_and_pixels(
    at: tuple[int, int, int],
    grid: tuple[int, int, int],
    frames: tuple[int, int, int],
    box: tuple[int, ...],
) -> None:
    assert tuple(box_of(at, grid, frames)) == box


@given(sizes, sizes)
def test_the_boxes_tile_the_clip(grid: tuple[int, int, int], more: tuple[int, int, int]) -> None:
    frames = tuple(a + b - 1 for a, b in zip(grid, more, strict=True))
    covered = np.zeros(frames, dtype=int)
    for at in np.ndindex(*grid):
        start, stop, top, bottom, left, right = box_of(at, grid, frames)
        covered[start:stop, top:bottom, left:right] += 1
    assert (covered == 1).all()


@given(sizes)
def test_positions_are_numbered_row_by_row(grid: tuple[int, int, int]) -> None:
    numbers = [flat_index(at, grid) for at in np.ndindex(*grid)]
    assert numbers == list(range(np.prod(grid)))
    assert query_index(grid, grid).tolist() == numbers


@pytest.mark.parametrize("at", [(2, 0, 0), (0, 3, 0), (0, 0, 4), (-1, 0, 0)])
def test_a_position_outside_is_refused(at: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="outside the feature map of 2x3x4 positions"):
        flat_index(at, (2, 3, 4))
    with pytest.raises(ValueError, match="outside"):
        box_of(at, (2, 3, 4), (8, 32, 32))


@given(sizes, st.integers(1, 40))
def test_no_more_than_the_limit_is_shown(full: tuple[int, int, int], limit: int) -> None:
    grid = shown_grid(full, limit)
    assert np.prod(grid) <= limit
    assert all(1 <= shown <= size for shown, size in zip(grid, full, strict=True))
    if np.prod(full) <= limit:
        assert grid == full
    queries = query_index(full, grid)
    assert len(set(queries.tolist())) == np.prod(grid)


@given(sizes, st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_columns_are_means_over_the_boxes(
    full: tuple[int, int, int], limit: int, seed: int
) -> None:
    values = np.random.default_rng(seed).random((2, *full), dtype=np.float32)
    grid = shown_grid(full, limit)
    result = pooled(values.reshape(2, -1), full, grid).reshape(2, *grid)
    spans = [cells(size, shown) for size, shown in zip(full, grid, strict=True)]
    for t, (t0, t1) in enumerate(spans[0]):
        for h, (h0, h1) in enumerate(spans[1]):
            for w, (w0, w1) in enumerate(spans[2]):
                expected = values[:, t0:t1, h0:h1, w0:w1].mean((1, 2, 3))
                np.testing.assert_allclose(result[:, t, h, w], expected, rtol=1e-5)


def test_all_maps_together_bound_the_positions() -> None:
    assert positions_limit(1) == positions_limit(4) == 1024
    assert positions_limit(48) ** 2 * 48 <= 4_800_000


def block_of(full: tuple[int, int, int], grid: tuple[int, int, int]) -> BlockMaps:
    empty = np.zeros(grid, dtype=np.float32)
    return BlockMaps("before:res4.1", 0, "snl", grid, full, {}, empty, empty)


@given(sizes, sizes, st.integers(1, 40), st.data())
def test_the_corresponding_cell_contains_the_same_place(
    of: tuple[int, int, int], full: tuple[int, int, int], limit: int, data: st.DataObject
) -> None:
    at = tuple(data.draw(st.integers(0, size - 1)) for size in of)
    grid = shown_grid(full, limit)
    found = corresponding(at, of, block_of(full, grid))
    for cell, size, shown, here, whole in zip(found, full, grid, at, of, strict=True):
        start, stop = cells(size, shown)[cell]
        assert start / size <= (here + 0.5) / whole < stop / size
    assert of != grid or of != full or found == at


@pytest.mark.parametrize(
    ("full", "grid"), [((4, 14, 14), (4, 12, 12)), ((8, 16, 8), (8, 11, 5)), ((2, 3, 4), (2, 3, 4))]
)
def test_the_position_of_a_cell_gives_the_cell(
    full: tuple[int, int, int], grid: tuple[int, int, int]
) -> None:
    block = block_of(full, grid)
    for cell, query in zip(np.ndindex(*grid), query_index(full, grid), strict=True):
        place = tuple(int(axis) for axis in np.unravel_index(query, full))
        assert corresponding(place, full, block) == cell


def test_the_structure_needs_no_torch() -> None:
    code = (
        "import sys, video_snl.analysis.explain.structure, video_snl.cli.explain; "
        "import reid.cli.features; "
        "assert not {'torch', 'matplotlib', 'captum'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
