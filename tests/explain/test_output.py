"""The folder of an explanation: what is checked before it is written, and what is taken away."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.explanations import block_maps, explanation, frames
from video_snl.analysis.explain import figure3
from video_snl.analysis.explain.page import encoded_map
from video_snl.analysis.explain.run import write_explanations
from video_snl.analysis.explain.structure import Explanation
from video_snl.errors import UserError

CLIP = frames(2, 24, 24)


def shown(checkpoint: str = "a.ckpt", *, signed: bool = False) -> Explanation:
    maps = block_maps((1, 2, 2), kinds=("affinity", "sensitivity"), signed=signed)
    return explanation(maps, clip=CLIP, checkpoint=checkpoint)


@pytest.mark.parametrize("what", ["affinity", "sensitivity", "before", "after", "cam", "scores"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_before_anything_is_written(
    what: str, value: float, tmp_path: Path
) -> None:
    bad = shown()
    block = bad.blocks[0]
    if what == "scores":
        bad = dataclasses.replace(bad, classes=[("AllMatch", float(value))])
    elif what == "cam":
        bad.gradcam[0, 0, 0] = value
    else:
        (block.maps[what] if what in block.maps else getattr(block, what)).flat[1] = value
    with pytest.raises(UserError, match="are not finite and cannot be shown"):
        write_explanations(tmp_path, [shown("good.ckpt"), bad], None)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_an_earlier_explanation_do_not_stay(tmp_path: Path) -> None:
    mine = tmp_path / "looks-7.png"
    mine.write_bytes(b"of somebody")
    write_explanations(tmp_path, [shown("a.ckpt"), shown("b.ckpt")], None)
    numbered = {"looks-0.png", "looks-1.png", "features-0.png", "features-1.png"}
    assert numbered <= {path.name for path in tmp_path.iterdir()}
    write_explanations(tmp_path, [shown()], None)
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"looks.png", "features.png", "looks-7.png"}
    assert mine.read_bytes() == b"of somebody"
    # A list that names what explain never writes is not followed.
    (tmp_path.parent / "kept.png").write_bytes(b"")
    listed = json.loads((tmp_path / "explanation.json").read_text())
    listed["networks"][0]["pictures"] = ["../kept.png", "looks.png", 3]
    (tmp_path / "explanation.json").write_text(json.dumps(listed))
    write_explanations(tmp_path, [shown()], None)
    assert (tmp_path.parent / "kept.png").exists() and (tmp_path / "looks.png").exists()


@pytest.mark.parametrize("lowest", [-1e-8, -0.5])
def test_colours_are_signed_where_those_of_the_page_are(
    lowest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole map decides, with the same rounding: the row that is drawn has none below zero."""
    drawn: list[figure3._Row] = []
    monkeypatch.setattr(figure3, "_draw", lambda _, rows, *rest: drawn.extend(rows))
    one = shown()
    affinity = one.blocks[0].maps["affinity"]
    affinity[3, 0] = lowest
    figure3.draw_looks(one, (0, 0, 0), (1, 2, 2), tmp_path / "looks.png")
    on_the_page = encoded_map(affinity, np.ones((4, 1)), 4)["signed"]
    assert drawn[1].signed is on_the_page is (lowest == -0.5)
