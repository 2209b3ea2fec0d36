"""Plots of an evaluation, drawn without a display and written atomically.

They are narrow, so that their labels can be read on a telephone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from reid.data.tracklet import DISTRACTOR, JUNK
from reid.metrics.ranking import RANKS
from video_snl.render.fonts import figure_fonts, spelled
from video_snl.utils.files import replace_file

if TYPE_CHECKING:
    from reid.metrics.ranking import Ranking
    from reid.report.evaluation import Evaluation

__all__ = ["Embedding", "embed", "plot_cmc", "plot_embedding", "save_figure"]

_WIDTH = 5.4
_IDENTITIES = 20
_TRACKLETS = 15
_PERPLEXITY = 10.0  # about as many neighbours as an identity has tracklets
_FEWEST = 5  # t-SNE of fewer points says nothing
_MARKERS = "os^Dv<>Pp*hX"


Colour = tuple[float, float, float, float]


class Embedding(NamedTuple):
    """Tracklets in the plane.

    Attributes:
        points: Positions, shape (N, 2), or (0, 2) where there were fewer than five tracklets.
        identities: Numbers of the identities, shape (N,).
        cameras: Numbers of the cameras, shape (N,).
        is_query: True for queries, shape (N,).
        perplexity: Perplexity of t-SNE.
        person_names: Names of the identities by their numbers; without a name, the number is drawn.
        camera_names: Names of the cameras, likewise.
    """

    points: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    is_query: np.ndarray
    perplexity: float
    person_names: Mapping[int, str] = {}
    camera_names: Mapping[int, str] = {}


def plot_cmc(rankings: Mapping[str, Ranking], path: Path, max_rank: int = 20) -> None:
    """Plot the cumulative matching characteristic of every ranking up to rank ``max_rank``."""
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    lowest, longest = 100.0, 1
    styles = ("-", "--", ":", "-.")
    for index, (name, ranking) in enumerate(rankings.items()):
        curve = 100 * np.asarray(ranking.cmc, dtype=np.float64)[:max_rank]
        ranks = np.arange(1, len(curve) + 1)
        label = f"{name} (mAP {ranking.mean_ap:.1%})"
        axes.plot(ranks, curve, styles[index % len(styles)], marker=".", label=label)
        lowest, longest = min(lowest, *curve), max(longest, len(curve))
    low = 10 * math.floor(max(lowest - 2, 0) / 10)
    axes.set(xlabel="rank", ylabel="queries with a match up to this rank (%)")
    axes.set_title("Cumulative matching characteristic (CMC)", fontsize=11)
    axes.set(ylim=(low, 100 + 0.02 * (100 - low)))
    ticks = (*RANKS, 50, 100) if longest > max(RANKS) else RANKS
    axes.set_xticks([rank for rank in ticks if rank <= longest])
    axes.set_xlim(0.5, max(longest, 2) + 0.5)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    save_figure(figure, path)


def embed(evaluation: Evaluation) -> Embedding:
    """Compute t-SNE (van der Maaten and Hinton, JMLR 2008) of some features; always the same.

    At most 20 identities are taken, evenly spaced among the numbers of those with two tracklets or
    more, and of each at most 15 tracklets, evenly spaced among the queries followed by the gallery.
    Features that are compared by their cosine are normalised, so that distances in the plane are of
    the metric of the search. The perplexity is 10, or a third of the number of points if that is
    less.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    identities, cameras, is_query = _labels(evaluation)
    rows = _chosen_rows(identities)
    labels = identities[rows], cameras[rows], is_query[rows]
    if len(rows) < _FEWEST:
        labels = labels[0][:0], labels[1][:0], labels[2][:0]
        return Embedding(np.zeros((0, 2)), *labels, perplexity=0.0)
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    # Sums over several threads differ in the last digits, and t-SNE then in its plot.
    with threadpool_limits(1):
        points = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(
            _features(evaluation, rows)
        )
    return Embedding(
        points,
        *labels,
        perplexity=perplexity,
        person_names=evaluation.person_names(),
        camera_names=evaluation.camera_names(),
    )


def plot_embedding(embedding: Embedding, path: Path) -> None:
    """Plot identities as colours, cameras as markers; lines lead to the name in the middle."""
    names = {
        person: spelled(_plain(embedding.person_names.get(int(person), str(person))))
        for person in np.unique(embedding.identities)
    }
    cameras = {
        camera: spelled(_plain(embedding.camera_names.get(int(camera), str(camera))))
        for camera in np.unique(embedding.cameras)
    }
    with figure_fonts([*names.values(), *cameras.values()]):
        save_figure(_tsne_figure(embedding, names, cameras), path)


def _tsne_figure(
    embedding: Embedding, names: Mapping[Any, str], cameras: Mapping[Any, str]
) -> Figure:
    figure = Figure(figsize=(_WIDTH, 5.8), layout="constrained")
    axes = figure.subplots()
    # The axes of t-SNE have neither unit nor scale.
    axes.set(xticks=[], yticks=[], xlabel="t-SNE, first axis", ylabel="t-SNE, second axis")
    axes.set_title("Features: colours and names are identities", fontsize=11)
    if not len(embedding.points):
        axes.text(0.5, 0.5, "too few tracklets for t-SNE", ha="center", transform=axes.transAxes)
    colours = {person: colormaps["tab20"](index % 20) for index, person in enumerate(names)}
    for person, colour in colours.items():
        _draw_person(axes, embedding.points[embedding.identities == person], names[person], colour)
    marks: dict[str, str] = {}
    for index, (camera, called) in enumerate(cameras.items()):
        marks[f"camera {called}"] = marker = _MARKERS[index % len(_MARKERS)]
        for query in (False, True):
            some = (embedding.cameras == camera) & (embedding.is_query == query)
            axes.scatter(
                embedding.points[some, 0],
                embedding.points[some, 1],
                c=[colours[person] for person in embedding.identities[some]],
                marker=marker,
                s=52 if query else 34,
                edgecolors="black" if query else "none",
                linewidths=1.1,
                zorder=2,
            )
    _tsne_legend(figure, marks)
    return figure


def _plain(name: str) -> str:
    """Escape a name, so that Matplotlib reads no mathematics in it."""
    return name.replace("$", r"\$")


def _draw_person(axes: Axes, points: np.ndarray, name: str, colour: Colour) -> None:
    middle = np.median(points, axis=0)
    for point in points:
        axes.plot(*zip(point, middle, strict=True), color=colour, lw=0.8, alpha=0.6, zorder=1)
    outline = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(
        middle[0],
        middle[1],
        name,
        ha="center",
        va="center",
        fontsize=8,
        path_effects=outline,
        parse_math=False,
        zorder=3,
    )


def _tsne_legend(figure: Figure, marks: Mapping[str, str]) -> None:
    handles = [
        Line2D([], [], ls="", marker=marker, color="dimgrey", label=name)
        for name, marker in marks.items()
    ]
    handles.append(Line2D([], [], ls="", marker="o", mfc="none", mec="black", label="query"))
    if marks:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9,
            handletextpad=0.1,
        )


def _labels(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tables = evaluation.query, evaluation.gallery
    identities = np.concatenate([np.asarray(table.person_ids) for table in tables])
    cameras = np.concatenate([np.asarray(table.camera_ids) for table in tables])
    return identities, cameras, np.arange(len(identities)) < len(evaluation.query.names)


def _chosen_rows(identities: np.ndarray) -> np.ndarray:
    """Choose the rows of the tracklets that are drawn, ascending."""
    known = identities[(identities != JUNK) & (identities != DISTRACTOR)]
    numbers, counts = np.unique(known, return_counts=True)
    several = numbers[counts >= 2]
    chosen = several[_spaced(len(several), _IDENTITIES)]
    rows = [np.flatnonzero(identities == person) for person in chosen]
    return np.sort(
        np.concatenate([np.empty(0, int), *(r[_spaced(len(r), _TRACKLETS)] for r in rows)])
    )


def _spaced(count: int, most: int) -> np.ndarray:
    """Return at most ``most`` of the indices below ``count``, evenly spaced."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(int)


def _features(evaluation: Evaluation, rows: np.ndarray) -> np.ndarray:
    split = len(evaluation.query.names)
    parts = (
        np.asarray(evaluation.query.features)[rows[rows < split]],
        np.asarray(evaluation.gallery.features)[rows[rows >= split] - split],
    )
    features = np.concatenate(parts).astype(np.float64)
    if evaluation.settings.get("metric", "cosine") != "cosine":
        return features
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norm, np.finfo(float).tiny)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    # Without the version of the library in it, equal figures are equal files.
    metadata = {"Software": None}
    replace_file(path, lambda file: figure.savefig(file, dpi=160, format="png", metadata=metadata))
