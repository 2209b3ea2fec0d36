"""The explorer in a browser: positions are clicked, and what it shows is compared with the arrays.

Weights on the page are within :func:`row_step` of the arrays, (high - low) / 510 of their row; the
largest of a row is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.explanations import KINDS, block_maps, explanation, frames
from video_snl.analysis.explain.page import row_step, write_page
from video_snl.analysis.explain.structure import BlockMaps, Explanation, Grid, flat_index

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (it is one of the dev packages)"
)
from tests.browsers import chromium  # noqa: E402
from tests.explorer import Explorer, colours, numbers  # noqa: E402

GRID = (2, 7, 7)
OTHER = (4, 3, 5)
Open = Callable[..., Explorer]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: object, tmp_path: Path) -> Iterator[Open]:
    """Opens a page of explanations; afterwards nothing may have gone wrong on any of them."""
    pages: list[Explorer] = []

    def _open(*shown: Explanation, width: int = 1280, touch: bool = False) -> Explorer:
        path = write_page(tmp_path / str(len(pages)), shown)
        pages.append(Explorer.open(browser, path, width=width, touch=touch))
        return pages[-1]

    yield _open
    assert [problem for page in pages for problem in page.problems] == []
    for page in pages:
        page.page.context.close()


def row(block: BlockMaps, kind: str, place: Grid) -> np.ndarray:
    return block.maps[kind][flat_index(place, block.grid)].astype(np.float64)


def assert_shows_row(explorer: Explorer, block: BlockMaps, kind: str, place: Grid) -> None:
    """Position, strongest position, its weight and the shares are those of the array's row."""
    expected = row(block, kind, place)
    assert explorer.selected() == place
    top = np.unravel_index(np.abs(expected).argmax(), block.grid)
    assert numbers(explorer.readout("strongest")) == top
    assert float(explorer.readout("weight") or "nan") == expected[flat_index(top, block.grid)]
    own = np.abs(expected).reshape(block.grid)[place[0]].sum() / np.abs(expected).sum()
    assert_allclose(float(explorer.readout("own-share") or "nan"), own, rtol=1e-6)


def test_every_weight_of_a_clicked_position_is_the_arrays(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((1, 4, 2), GRID)
    assert_shows_row(explorer, block, "affinity", (1, 4, 2))
    expected = row(block, "affinity", (1, 4, 2))
    shown = explorer.values(GRID, every=9)  # of every row and column of the grid
    assert np.all(abs(shown - expected[::9]) <= row_step([expected])[0])


def test_clicks_in_any_frame_select_what_lies_there(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    for place in [(0, 0, 0), (1, 6, 6), (0, 6, 0), (1, 0, 6), (0, 3, 5)]:
        explorer.click(place, GRID)
        assert_shows_row(explorer, block, "affinity", place)
        own = list(range(8 * place[0], 8 * place[0] + 8))
        assert explorer.visible_boxes("selected") == own
        assert f"frames {own[0]}–{own[-1]}" in explorer.said("where")
        assert f"(time {place[0]}, row {place[1]}, column {place[2]})" in explorer.said("where")


def test_the_box_of_the_strongest_position_lies_on_it(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((0, 2, 3), GRID)
    top = np.unravel_index(row(block, "affinity", (0, 2, 3)).argmax(), GRID)
    shown = explorer.visible_boxes("strongest")
    assert shown == list(range(8 * top[0], 8 * top[0] + 8))
    box = explorer.panel().locator(".picture .strongest").nth(shown[0]).bounding_box()
    x, y = explorer.point_in(tuple(map(int, top)), GRID)
    assert_allclose([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2], [x, y], atol=1)


def test_a_position_that_looks_at_itself(opened: Open) -> None:
    block = block_maps(GRID)
    block.maps["affinity"][flat_index((1, 5, 5), GRID), flat_index((1, 5, 5), GRID)] = 3
    explorer = opened(explanation(block))
    explorer.click((1, 5, 5), GRID)
    assert_shows_row(explorer, block, "affinity", (1, 5, 5))
    assert "Looks most at itself: weight 3, " in explorer.said("most")


def test_the_colours_are_those_of_the_weights(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((0, 1, 1), GRID)
    weights = row(block, "affinity", (0, 1, 1)).reshape(GRID)
    table = colours("inferno")
    for place in [(0, 0, 0), (0, 1, 5), (1, 3, 3), (1, 6, 6)]:
        level = 255 * weights[place] / weights.max()
        near = table[max(0, int(level - 1)) : int(level + 2) + 1]
        for frame in (8 * place[0], 8 * place[0] + 7):
            drawn = explorer.colour(place, GRID, frame)
            assert drawn[3] == 255 and (near == drawn[:3]).all(1).any()


def test_each_kind_of_weights_is_shown(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((1, 2, 5), GRID)
    for kind in reversed(KINDS):  # the first of them is that of a page as it opens
        explorer.choose("kind", kind)
        assert_shows_row(explorer, block, kind, (1, 2, 5))
        assert explorer.ends() == (0, row(block, kind, (1, 2, 5)).max())


def test_another_block_is_shown_on_its_own_grid(opened: Open) -> None:
    first, second = block_maps(GRID), block_maps(OTHER, position="before:res3.3", unit=1, seed=1)
    explorer = opened(explanation(first, second))
    explorer.click((1, 6, 6), GRID)
    choice = explorer.panel().locator(".block-choice")
    assert choice.locator("option").all_inner_texts() == [
        "snl before:res4.5, 2 × 7 × 7 positions",
        "snl before:res3.3 unit 1, 4 × 3 × 5 positions",
    ]
    choice.select_option("1")
    assert_shows_row(explorer, second, "affinity", (2, 2, 4))  # of frame 8, at the same corner
    explorer.click((3, 1, 0), OTHER)
    assert_shows_row(explorer, second, "affinity", (3, 1, 0))
    expected = row(second, "affinity", (3, 1, 0))
    shown = explorer.values(OTHER, every=7)  # of every row and column, in every frame of the grid
    assert np.all(abs(shown - expected[::7]) <= row_step([expected])[0])


def test_the_scale_reaches_to_the_row_or_to_the_whole_map(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((0, 0, 3), GRID)
    weights = row(block, "affinity", (0, 0, 3))
    own, common = weights.max(), float(block.maps["affinity"].max())
    assert own < common and explorer.ends() == (0, own)
    explorer.choose("scale", "range")
    assert explorer.ends() == (weights.min(), own)
    explorer.choose("scale", "map")
    assert explorer.ends() == (0, common)


def test_the_pictures_can_show_features_and_grad_cam(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((0, 3, 3), GRID)
    for mode, values in (("before", block.before), ("after", block.after)):
        explorer.choose("mode", mode)
        step = row_step([values.ravel()])[0]
        assert np.all(abs(explorer.values(GRID, every=9) - values.ravel()[::9]) <= step)
        assert explorer.ends() == (values.min(), values.max())
    explorer.choose("scale", "map")
    both = np.stack([block.before, block.after])
    assert explorer.ends() == (both.min(), both.max())
    explorer.choose("mode", "gradcam")
    assert explorer.ends() == (0, 1)
    assert explorer.value_under_pointer((5, 2, 4), (16, 7, 7)) == 1
    assert explorer.value_under_pointer((6, 2, 4), (16, 7, 7)) == 0.25
    assert explorer.selected() == (0, 3, 3) and not explorer.visible_boxes("strongest")
    assert explorer.page.locator("#kind-choice input").first.is_disabled()


def test_the_first_position_is_the_strongest_of_grad_cam(opened: Open) -> None:
    assert opened(explanation(block_maps(GRID))).selected() == (0, 2, 4)
    assert opened(explanation(block_maps(GRID), gradcam=False)).selected() == (0, 3, 3)


def test_keys_move_the_position_and_stop_at_the_edges(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block))
    explorer.click((0, 0, 5), GRID)
    explorer.panel().locator(".strip").focus()
    for key, place in [
        ("ArrowRight", (0, 0, 6)),
        ("ArrowRight", (0, 0, 6)),
        ("ArrowUp", (0, 0, 6)),
        ("ArrowDown", (0, 1, 6)),
        ("PageDown", (1, 1, 6)),
        ("PageDown", (1, 1, 6)),
        ("ArrowLeft", (1, 1, 5)),
        ("PageUp", (0, 1, 5)),
        ("PageUp", (0, 1, 5)),
    ]:
        explorer.page.keyboard.press(key)
        assert_shows_row(explorer, block, "affinity", place)


def test_the_strip_is_reached_by_the_tab_key(opened: Open) -> None:
    explorer = opened(explanation(block_maps(GRID)))
    explorer.page.locator(".block-choice").focus()
    explorer.page.keyboard.press("Tab")
    assert explorer.page.evaluate("document.activeElement.className") == "strip"


def test_a_click_selects_the_same_place_in_both_networks(opened: Open) -> None:
    snl = block_maps(GRID), block_maps(OTHER, position="before:res3.3", seed=1)
    nl = (
        block_maps(GRID, block="nl", seed=2),
        block_maps(OTHER, block="nl", position="before:res3.3", seed=3),
    )
    explorer = opened(explanation(*snl), explanation(*nl, checkpoint="nl.ckpt"))
    explorer.click((1, 5, 0), GRID, panel=1)
    assert explorer.selected(0) == explorer.selected(1) == (1, 5, 0)
    assert explorer.said("most", 0) != explorer.said("most", 1)
    explorer.panel(1).locator(".block-choice").select_option("1")
    assert explorer.panel(0).locator(".block-choice").input_value() == "1"
    assert explorer.selected(0) == explorer.selected(1)
    explorer.click((3, 0, 2), OTHER, panel=0)
    expected = row(nl[1], "affinity", (3, 0, 2))
    shown = explorer.values(OTHER, panel=1, every=7)
    assert np.all(abs(shown - expected[::7]) <= row_step([expected])[0])
    explorer.choose("scale", "all")
    largest = max(float(b.maps["affinity"].max()) for b in (snl[1], nl[1]))
    assert explorer.ends(0) == explorer.ends(1) == (0, largest)


def test_networks_of_other_grids_and_clips_are_compared_by_the_place(opened: Open) -> None:
    fine = explanation(block_maps((4, 6, 6)))
    coarse = explanation(block_maps((2, 3, 3), position="after:layer2"), clip=frames(8))
    explorer = opened(fine, coarse)
    for place in [(0, 0, 0), (1, 2, 5), (3, 5, 4)]:
        explorer.click(place, (4, 6, 6))
        assert explorer.selected(0) == place
        assert explorer.selected(1) == tuple(part // 2 for part in place)


def test_negative_weights_have_colours_symmetric_around_zero(opened: Open) -> None:
    block = block_maps(GRID, signed=True)
    explorer = opened(explanation(block))
    explorer.click((0, 0, 0), GRID)
    assert_shows_row(explorer, block, "affinity", (0, 0, 0))
    weights = row(block, "affinity", (0, 0, 0))
    assert explorer.ends() == (-abs(weights).max(), abs(weights).max())
    assert "negative" in explorer.said("meaning")
    least = tuple(map(int, np.unravel_index(weights.argmin(), GRID)))
    level = 255 * (weights.min() / abs(weights).max() + 1) / 2
    table = colours("coolwarm")[int(level) : int(level) + 2]
    assert (table == explorer.colour(least, GRID, 8 * least[0])[:3]).all(1).any()


def test_a_row_of_zeros_is_said_to_be_one(opened: Open) -> None:
    block = block_maps(GRID)
    block.maps["affinity"][flat_index((0, 1, 2), GRID)] = 0
    explorer = opened(explanation(block))
    explorer.click((0, 1, 2), GRID)
    assert "zero" in explorer.said("reach") and not explorer.visible_boxes("strongest")
    assert explorer.readout("weight") is None
    explorer.click((0, 1, 3), GRID)
    assert_shows_row(explorer, block, "affinity", (0, 1, 3))


def test_a_network_without_blocks_still_has_grad_cam(opened: Open) -> None:
    explorer = opened(explanation())
    assert "no nonlocal block" in explorer.panel().inner_text()
    assert explorer.value_under_pointer((5, 2, 4), (16, 7, 7)) == 1


def test_what_a_block_does_not_have_is_said(opened: Open) -> None:
    gate = block_maps(GRID, block="se", kinds=("sensitivity",))
    explorer = opened(explanation(block_maps(GRID)), explanation(gate, gradcam=False))
    assert "no such weights" in explorer.said("missing", 1)
    explorer.choose("kind", "sensitivity")
    assert not explorer.panel(1).locator(".missing").is_visible()
    explorer.choose("mode", "gradcam")
    assert "no Grad-CAM" in explorer.said("missing", 1)


def test_a_picture_has_no_reach_in_time(opened: Open) -> None:
    block = block_maps((1, 8, 8))
    explorer = opened(explanation(block, clip=frames(1, 32, 32)))
    explorer.click((0, 7, 1), (1, 8, 8))
    assert_shows_row(explorer, block, "affinity", (0, 7, 1))
    assert explorer.said("reach") == "" and "the only frame" in explorer.said("where")
    assert not explorer.panel().locator(".by-time").is_visible()


def test_opacity_and_blending_change_the_drawing(opened: Open) -> None:
    explorer = opened(explanation(block_maps(GRID)))
    explorer.page.locator("#opacity").fill("20")
    canvas = explorer.panel().locator(".picture canvas").first
    assert canvas.evaluate("canvas => getComputedStyle(canvas).opacity") == "0.2"

    cells = np.unique(explorer.pixels(0).reshape(-1, 4), axis=0)
    assert len(cells) <= 49
    explorer.page.locator("#smooth").check()
    assert len(np.unique(explorer.pixels(0).reshape(-1, 4), axis=0)) > 10 * len(cells)


@pytest.mark.parametrize(
    "clip",
    [
        (16, 112, 112),
        *(pytest.param(clip, marks=pytest.mark.slow) for clip in ((8, 128, 64), (1, 48, 64))),
    ],
    ids=str,
)
def test_nothing_sticks_out_of_the_window(opened: Open, clip: tuple[int, int, int]) -> None:
    name = "runs/" + "a_very_long_name_without_a_space" * 3 + "/best.ckpt"
    one = explanation(
        block_maps((1, 4, 4)), clip=frames(*clip), checkpoint=name, notes=("subsampled: " + name,)
    )
    one.classes[0] = ("AnActionWithANameThatIsQuiteLongIndeed" * 2, 1.0)
    for shown in ([one], [one, one]):
        explorer = opened(*shown)
        for width in (1280, 400):
            explorer.page.set_viewport_size({"width": width, "height": 900})
            for size in ("small", "medium", "large"):
                explorer.choose("size", size)
                assert explorer.overflowing() == []
    assert "subsampled" in explorer.panel().inner_text()


def test_panels_are_beside_each_other_where_there_is_room(opened: Open) -> None:
    both = [explanation(block_maps(GRID)), explanation(block_maps(GRID))]
    for width, beside in ((1280, True), (400, False)):
        explorer = opened(*both, width=width)
        left, right = (explorer.panel(number).bounding_box() for number in (0, 1))
        assert (left["y"] == right["y"]) is beside


def test_a_finger_selects_positions_on_a_phone(opened: Open) -> None:
    block = block_maps(GRID)
    explorer = opened(explanation(block), width=400, touch=True)
    explorer.page.touchscreen.tap(*explorer.point_in((1, 2, 6), GRID))
    assert_shows_row(explorer, block, "affinity", (1, 2, 6))


def test_names_are_shown_as_they_are(opened: Open) -> None:
    shown = explanation(block_maps((1, 2, 2)), notes=("<b>&amp;</script><script>x()</script>",))
    shown.classes[0] = ("<i>{{ 1 }}</i>", 0.5)
    text = opened(shown).panel().inner_text()
    assert shown.notes[0] in text and shown.classes[0][0] in text
