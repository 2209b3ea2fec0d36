"""Contents of the lines and figures of a training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar
from matplotlib.figure import Figure

from tests.explanations import block_maps, explanation
from video_snl.analysis.explain.figure3 import draw_features, draw_looks
from video_snl.analysis.spectrum import filter_plots as spectral_plots
from video_snl.analysis.spectrum.filters import Part, Parts
from video_snl.config.task_spec import IMAGE, VIDEO, shown_metrics, shown_tops
from video_snl.engine.plots import confusion_picture, learning_curves, short_count
from video_snl.engine.trainer import Bar

ROWS = [
    {"epoch": float(e), "train/loss": 1 / e, "val/top1": e / 9, "val/top5": e / 5} for e in (1, 2)
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *words: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *words, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    return figures


@pytest.mark.parametrize(("classes", "tops"), [(2, (1,)), (5, (1,)), (6, (1, 5)), (None, (1, 5))])
def test_top_5_is_shown_of_more_than_five_classes(
    classes: int | None, tops: tuple[int, ...], drawn: list[Figure], tmp_path: Path
) -> None:
    assert shown_tops(classes) == tops
    for spec in (VIDEO, IMAGE):
        for metrics in (spec.line, spec.summary, spec.shares):
            labels = [label for _, label in shown_metrics(metrics, classes)]
            assert any("top-5" in label for label in labels) == (5 in tops)
            assert any("top-1" in label for label in labels)
    learning_curves(ROWS, tmp_path / "learning_curves.png", classes=classes)
    labels = drawn[0].axes[1].get_legend_handles_labels()[1]
    assert any("top-5" in label for label in labels) == (5 in tops)


def test_the_bar_has_no_version_number(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"v_num": "x", "train/loss": 0.5}
    monkeypatch.setattr(RichProgressBar, "get_metrics", lambda *_: dict(shown))
    unused: Any = SimpleNamespace()
    assert Bar().get_metrics(unused, unused) == {"train/loss": 0.5}


def test_every_figure_has_a_title_labels_and_labelled_bars(
    drawn: list[Figure], tmp_path: Path
) -> None:
    path, grid = tmp_path / "p.png", (2, 3, 3)
    shown = explanation(block_maps(grid))
    draw_looks(shown, (0, 1, 1), grid, path)
    draw_features(shown, path)
    learning_curves(ROWS, path)
    confusion_picture(np.eye(3), ["a", "b", "c"], path, title="video level", unit="videos")
    values = torch.linspace(-1, 1, 8)[None]
    spectral_plots.plot_spectrum(values, path)
    spectral_plots.plot_decay([values[0].abs().sort(descending=True).values], [3.0], path)
    spectral_plots.plot_response(torch.linspace(0, 2, 5), torch.rand(5, 4, 3), path)
    spectral_plots.plot_groups(torch.linspace(0, 2, 5), {"one": torch.rand(5)}, path)
    spectral_plots.plot_chebyshev(torch.rand(4, 4, 3), path)
    part = Part(*(torch.rand(2) for _ in Part._fields))
    spectral_plots.plot_parts(Parts(*(part for _ in Parts._fields)), path)
    assert len(drawn) == 10
    for figure in drawn:
        assert figure.get_suptitle() or any(axes.get_title() for axes in figure.axes)
        bars = [axes for axes in figure.axes if hasattr(axes, "_colorbar")]
        images = [axes for axes in figure.axes if axes.images and axes not in bars]
        assert all(bar.get_ylabel() for bar in bars)
        mapped = [axes for axes in images if axes.images[-1].get_array().ndim == 2]
        assert bool(mapped) == bool(bars)
        plain = [axes for axes in figure.axes if axes not in bars and axes not in images]
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in plain)


def test_the_confusion_matrix_says_what_is_counted(drawn: list[Figure], tmp_path: Path) -> None:
    matrix = np.array([[12_345_678, 4], [0, 9]])
    confusion_picture(matrix, ["a", "b"], tmp_path / "c.png", title="t", unit="pixels")
    axes, bar = drawn[0].axes
    assert "pixels" in axes.get_title() and "pixels" in bar.get_ylabel() and "%" in bar.get_ylabel()
    assert {text.get_text() for text in axes.texts} == {"12.3M", "4", "0", "9"}
    assert [short_count(n) for n in (9999, 10_000, 123_456, 4_567_000_000)] == [
        "9999",
        "10k",
        "123k",
        "4.57G",
    ]
