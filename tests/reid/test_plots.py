"""Figures of an evaluation: what they draw, whole files, small sets; pages in a browser."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from reid.report.evaluation import Evaluation, ranking_metrics
from reid.report.plots import embed, plot_cmc, plot_embedding
from reid.report.report import write_report
from tests.reid.evaluations import Row, make_evaluation, make_table


def _with_features(evaluation: Evaluation, features: np.ndarray) -> Evaluation:
    split = len(evaluation.query.names)
    return dataclasses.replace(
        evaluation,
        query=make_table(evaluation.data.query, features[:split]),
        gallery=make_table(evaluation.data.gallery, features[split:]),
    )


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return make_evaluation(tmp_path_factory.mktemp("images"), size=(1, 1))


def test_people_apart_in_features_are_apart_in_the_plane(evaluation: Evaluation) -> None:
    identities = [t.person_id for t in [*evaluation.data.query, *evaluation.data.gallery]]
    apart = 100 * np.eye(5)[identities] + np.random.default_rng(0).normal(size=(len(identities), 5))
    found = embed(_with_features(evaluation, apart))
    assert sorted(set(found.identities.tolist())) == [1, 2, 3, 4]  # no distractors
    assert found.is_query.sum() == 4
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (found.identities[distances.argmin(1)] == found.identities).all()


def test_the_cosine_does_not_see_lengths(evaluation: Evaluation) -> None:
    parts = evaluation.query.features, evaluation.gallery.features
    features = np.concatenate([np.asarray(part) for part in parts])
    # Powers of two change no digit of the normalised features.
    scale = 2.0 ** np.random.default_rng(0).integers(-3, 4, (len(features), 1))
    plain, scaled = embed(evaluation), embed(_with_features(evaluation, features * scale))
    np.testing.assert_array_equal(plain.points, scaled.points)
    euclidean = dataclasses.replace(
        _with_features(evaluation, features * scale), settings={"metric": "euclidean"}
    )
    assert not np.allclose(plain.points, embed(euclidean).points)


def test_the_choice_of_people_and_tracklets_is_bounded(tmp_path: Path) -> None:
    gallery: list[Row] = [(person, 1) for person in range(1, 41)]
    gallery += [(1, camera % 4 + 1) for camera in range(60)]
    made = make_evaluation(tmp_path, [(person, 0) for person in range(1, 31)], gallery, size=(1, 1))
    found = embed(made)
    identities, counts = np.unique(found.identities, return_counts=True)
    # Of 1 to 30, who have two tracklets or more; 31 to 40 have one.
    assert len(identities) == 20 and identities[0] == 1 and identities[-1] == 30
    assert counts[0] == 15 and (counts[1:] == 2).all()


@pytest.mark.parametrize("tracklets", [1, 2, 4, 6])
def test_few_tracklets_make_a_picture_too(tmp_path: Path, tracklets: int) -> None:
    made = make_evaluation(tmp_path / "p", [(1, 0)], [(1, 1)] * tracklets, size=(1, 1))
    found = embed(made)
    assert len(found.points) == (0 if tracklets < 4 else tracklets + 1)
    assert np.isfinite(found.points).all()
    plot_embedding(found, tmp_path / "tsne.png")
    assert Image.open(tmp_path / "tsne.png").size[0] > 600


def test_equal_features_make_a_picture_too(evaluation: Evaluation, tmp_path: Path) -> None:
    found = embed(_with_features(evaluation, np.zeros((18, 4))))
    assert np.isfinite(found.points).all()
    plot_embedding(found, tmp_path / "tsne.png")
    assert (tmp_path / "tsne.png").is_file()


def test_a_curve_shorter_than_twenty_ranks_is_drawn(evaluation: Evaluation, tmp_path: Path) -> None:
    ranking = dataclasses.replace(evaluation.rankings["common"], cmc=torch.tensor([0.5, 1.0]))
    plot_cmc({"common": ranking}, tmp_path / "cmc.png")
    with pytest.raises(ValueError, match="a CMC curve of 2 ranks does not hold rank 20"):
        ranking_metrics(ranking)
    assert [path.name for path in tmp_path.iterdir()] == ["cmc.png"]


def test_the_picture_ends_with_the_largest_rank_asked_for(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("reid.report.plots.save_figure", lambda figure, path: drawn.append(figure))
    for max_rank in (1, 20, 50):
        plot_cmc(evaluation.rankings, tmp_path / "cmc.png", max_rank)
    lengths = [len(figure.axes[0].lines[0].get_xdata()) for figure in drawn]
    assert lengths == [1, 20, 50]


def test_a_failed_picture_leaves_the_old_one(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cmc.png"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="no space"):
        plot_cmc(evaluation.rankings, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


_PROBE = """<!DOCTYPE html><body><iframe id="page" style="border:0; width:{width}px; height:900px"
src="{page}"></iframe><script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const broken = [...page.images].filter(i => i.complete && !i.naturalWidth).length;
  const cut = [...page.querySelectorAll("body *")].filter(
    e => !e.closest(".scroll") && e.scrollWidth > e.clientWidth + 1 && e.clientWidth).length;
  document.body.textContent = `widths ${{root.scrollWidth}} of ${{root.clientWidth}}, `
    + `${{page.images.length}} images, ${{broken}} broken, ${{cut}} cut off`;
}};</script>"""


def test_a_browser_shows_the_page_without_errors_or_overflow(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium: the page is not looked at in a browser")
    made = make_evaluation(
        tmp_path / "p",
        name="a-name-without-any-space-" * 8,
        settings={"metric": "cosine", "model.positions" * 6: "x" * 300},
    )
    page = write_report(tmp_path / "report", made)
    for width in (400, 1280):
        probe = tmp_path / "probe.html"
        probe.write_text(_PROBE.format(width=width, page=page.as_uri()))
        done = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"),
                *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"),
                *("--dump-dom", probe.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        found = re.search(
            r"widths (\d+) of (\d+), (\d+) images, (\d+) broken, (\d+) cut", done.stdout
        )
        assert found is not None, done.stdout[-500:] + done.stderr[-2000:]
        wide, seen, images, *faults = map(int, found.groups())
        assert width - 20 < seen <= width  # there may be a scroll bar
        assert wide <= seen and images > 40 and faults == [0, 0]
