"""The page's encoding, and the page as a file: size, whole, alone."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose

from tests.blocks.cases import features, made
from tests.explanations import KINDS, block_maps, explanation, frames
from video_snl.analysis.explain import maps
from video_snl.analysis.explain.maps import sensitivity_rows
from video_snl.analysis.explain.page import (
    decoded_rows,
    encoded_map,
    encoded_rows,
    page_html,
    row_step,
    write_page,
)
from video_snl.analysis.explain.positions import strongest
from video_snl.analysis.explain.structure import BlockMaps, Grid, box_of, cells, query_index
from video_snl.blocks import NonlocalBlock
from video_snl.errors import UserError

TEN_MEGABYTES = 10_000_000
_SIZES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
_WEIGHTS = st.floats(-(2.0**60), 2.0**60, width=32)


def stored(html: str) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(r'<script type="application/json" id="explanations">(.*?)</script>', html)
    return json.loads(found[1])


def numbers(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


@given(arrays(np.float32, _SIZES, elements=_WEIGHTS))
def test_rows_come_back_to_within_half_a_level(rows: np.ndarray) -> None:
    back = decoded_rows(encoded_rows(rows))
    assert back.shape == rows.shape
    assert np.all(abs(back - rows) <= row_step(rows))


@given(arrays(np.float32, _SIZES, elements=_WEIGHTS))
def test_the_ends_of_a_row_come_back_as_they_are(rows: np.ndarray) -> None:
    encoded = encoded_rows(rows)
    assert np.array_equal(numbers(encoded["low"], "<f4"), rows.min(1))
    assert np.array_equal(numbers(encoded["high"], "<f4"), rows.max(1))
    levels = numbers(encoded["levels"], "u1").reshape(rows.shape)
    flat = rows.min(1) == rows.max(1)
    assert np.all((levels.max(1) == 255) | flat) and np.all(levels.min(1) == 0)


@given(arrays(np.float64, _SIZES, elements=st.floats(0, 1)), st.integers(0, 8))
def test_larger_values_never_have_lower_levels(rows: np.ndarray, number: int) -> None:
    row = rows[number % len(rows)]
    levels = numbers(encoded_rows(row[None])["levels"], "u1").astype(int)
    assert np.all(np.diff(levels[np.argsort(row, kind="stable")]) >= 0)


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 1000),
    st.booleans(),
)
def test_a_map_knows_its_strongest_positions_and_shares(
    grid: Grid, seed: int, signed: bool
) -> None:
    matrix = block_maps(grid, kinds=("affinity",), seed=seed, signed=signed).maps["affinity"]
    parts = abs(matrix.astype(np.float64)).reshape(len(matrix), grid[0], -1).sum(2)
    encoded = encoded_map(matrix, parts, len(matrix))
    size = abs(matrix.astype(np.float64))
    assert encoded["signed"] is bool(matrix.min() < 0)
    assert np.array_equal(numbers(encoded["strongest"], "<i4"), size.argmax(1))
    shares = numbers(encoded["shares"], "<f4").reshape(len(matrix), grid[0])
    for row, parts in zip(size, shares, strict=True):
        expected = [row.reshape(grid)[time].sum() / row.sum() for time in range(grid[0])]
        assert_allclose(parts, expected, rtol=1e-5, atol=1e-7)
    assert_allclose(numbers(encoded["total"], "<f4"), size.sum(1), rtol=1e-6)


def test_rounding_below_zero_does_not_make_a_map_signed() -> None:
    def signed(row: list[float]) -> bool:
        return bool(encoded_map([row] * 2, [[1.0]] * 2, 2)["signed"])

    assert not signed([1.0, -1e-8]) and signed([1.0, -1e-3]) and signed([-1.0, -2.0])


@pytest.mark.parametrize("full", [(3, 5, 7), (5, 3, 4)])
def test_shares_of_a_thinned_map_are_those_of_the_whole_rows(full: Grid) -> None:
    """Boxes of unequal sizes, along time, too: sums of their means are not shares."""
    block, x = made("nl dot").float(), features(1, 8, *full).float()
    assert isinstance(block, NonlocalBlock)
    [shown] = maps.block_maps("before:res4.0", "nl", block, x, 17)
    assert shown.grid != full
    query = query_index(full, shown.grid)
    rows = {"affinity": block.affinity(x).to_dense()[0].detach().numpy()[query]}
    index = torch.arange(math.prod(full))
    rows["sensitivity"] = torch.cat(list(sensitivity_rows(block, x, index))).numpy()[query]
    html = page_html([explanation(shown)])
    [stored_block] = stored(html)["explanations"][0]["blocks"]
    for kind, whole in rows.items():
        encoded = stored_block["maps"][kind]
        sizes = abs(whole.astype(np.float64)).reshape(len(query), *full)
        spans = cells(full[0], shown.grid[0])
        parts = np.stack([sizes[:, start:stop].sum((1, 2, 3)) for start, stop in spans], 1)
        found = numbers(encoded["shares"], "<f4").reshape(parts.shape)
        assert_allclose(found, parts / parts.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
        # The page divides it by the number of values shown, for the mean of a row.
        mean = numbers(encoded["total"], "<f4") / len(query)
        assert_allclose(mean, sizes.mean((1, 2, 3)), rtol=1e-4)
    assert 'class="thinned"' in html
    assert 'class="thinned"' not in page_html([explanation(block_maps((1, 2, 2)))])


def test_the_strongest_position_is_that_of_the_whole_rows() -> None:
    """The row with the larger sum wins, though the means of its boxes sum to less."""
    weights = np.array([[0.0, 4.0], [3.0, 0.0]], dtype=np.float32)
    sums = np.array([[4.0], [9.0]])
    norms = np.ones((1, 1, 2), dtype=np.float32)
    sensitivity = {"sensitivity": weights}
    block = BlockMaps(
        "p", 0, "snl", (1, 1, 2), (1, 1, 4), sensitivity, norms, norms, {"sensitivity": sums}
    )
    assert strongest([explanation(block)]) == (0, 0, 2)


@pytest.mark.parametrize("grid", [(2, 7, 7), (3, 5, 4), (1, 1, 1)])
def test_cells_lie_where_the_boxes_of_their_positions_are(grid: Grid) -> None:
    clip = frames(16, 112, 64)
    page = stored(page_html([explanation(block_maps(grid), clip=clip)]))
    cells = page["explanations"][0]["blocks"][0]["cells"]
    for t, h, w in np.ndindex(*grid):
        box = box_of((t, h, w), grid, clip.shape[:3])
        assert cells["times"][t] == [box.start, box.stop]
        assert_allclose(cells["rows"][h], [box.top / 112, box.bottom / 112])
        assert_allclose(cells["columns"][w], [box.left / 64, box.right / 64])


def test_a_clip_seen_by_two_networks_is_stored_once() -> None:
    one, other = explanation(block_maps((2, 2, 2))), explanation(block_maps((2, 2, 2), seed=1))
    page = stored(page_html([one, other]))
    assert len(page["pictures"]) == 16
    assert [each["frames"] for each in page["explanations"]] == [list(range(16))] * 2


def _noise(count: int, side: int) -> np.ndarray:
    """Frames that no JPEG makes small."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_pages_stay_below_ten_megabytes(tmp_path: Path) -> None:
    usual = [block_maps((2, 7, 7)), block_maps((2, 7, 7), position="before:res3.3")]
    large = [block_maps((4, 15, 10))]
    assert len(large[0].maps["affinity"]) == 600 and len(large[0].maps) == len(KINDS) == 4
    for number, blocks in enumerate((usual, large, large * 3)):
        shown = explanation(*blocks, clip=_noise(16, 224))
        path = write_page(tmp_path / str(number), [shown])
        assert 100_000 < path.stat().st_size < TEN_MEGABYTES


def test_pages_of_a_usual_clip_are_small(tmp_path: Path) -> None:
    both = [explanation(block_maps((2, 7, 7)))] * 2
    assert write_page(tmp_path, both).stat().st_size < 500_000


def test_pictures_that_are_large_are_made_smaller() -> None:
    page = stored(page_html([explanation(clip=frames(1, 480, 1200), gradcam=False)]))
    (image,) = page["pictures"]
    assert len(image) < 100_000 and image.startswith("data:image/jpeg;base64,")


def test_the_page_names_no_other_file() -> None:
    html = page_html([explanation(block_maps((2, 2, 2)))])
    assert not re.search(r"""(src|href)=["'](?!data:)""", html)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", html)
    assert "default-src 'none'" in html


def test_a_page_is_replaced_whole(tmp_path: Path) -> None:
    path = write_page(tmp_path, [explanation(block_maps((1, 2, 2)))])
    before = path.read_text()
    broken = block_maps((1, 2, 2))
    broken.maps["affinity"][0, 1] = np.nan
    with pytest.raises(UserError, match="1 of the 16 values of affinity of snl before:res4.5"):
        write_page(tmp_path, [explanation(broken)])
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_the_order_of_kinds_and_their_names() -> None:
    html = page_html([explanation(block_maps((1, 2, 2)))])
    kinds = re.findall(r'name="kind" value="([^"]*)"[^>]*><span>([^<]*)<', html)
    assert kinds == list(zip(KINDS, ("A", "A²", "A³", "sensitivity"), strict=True))


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_page(tmp_path, [])


@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((2, 0)), [[np.inf, 0]], [[np.nan]]])
def test_rows_that_cannot_be_stored(rows: Any) -> None:
    with pytest.raises(ValueError, match="rows must be|not finite"):
        encoded_rows(rows)


@pytest.mark.parametrize(
    ("blocks", "gradcam", "offered"),
    [
        (True, True, ["attention", "before", "after", "gradcam"]),
        (True, False, ["attention", "before", "after"]),
        (False, True, ["gradcam"]),
        (False, False, []),
    ],
)
def test_only_what_is_there_is_offered(blocks: bool, gradcam: bool, offered: list[str]) -> None:
    shown = explanation(*([block_maps((2, 3, 3))] if blocks else []), gradcam=gradcam)
    page = page_html([shown])
    assert re.findall(r'name="mode" value="(\w+)"', page) == offered
    assert ("the block looks" in page) == blocks
