"""Page of ``reid calibrate``: distributions of distances, ROC and DIR curves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid.metrics.open_set import FEWEST, OpenSet
from reid.report.page import write_reid_page
from reid.report.plots import save_figure
from video_snl.render.page import embedded_png, per_cent

__all__ = ["plot_dir", "plot_distances", "plot_roc", "write_calibration_page"]

_SIZE = (5.4, 4.0)


def write_calibration_page(
    path: Path, found: OpenSet, values: dict[str, Any], *, text: str
) -> None:
    """Write the page.

    Args:
        path: File to write.
        found: What was measured.
        values: What ``reid calibrate --json`` prints.
        text: What was compared, in lines.
    """
    chosen = values["chosen"]
    threshold = None if chosen is None else chosen["threshold"]
    pictures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in (
            ("distances", plot_distances(found, threshold)),
            ("roc", plot_roc(found)),
            ("dir", plot_dir(found, threshold)),
        ):
            file = Path(folder, f"{name}.png")
            save_figure(figure, file)
            pictures[name] = embedded_png(file)
    rows = [
        {
            "rate": f"{row['rate']:g}",
            "shares": [
                "not measurable" if share is None else per_cent(share)
                for share in (row["tar_at_far"], row["dir_at_false_alarm_rate"])
            ],
        }
        for row in values["rates"]
    ]
    write_reid_page(
        path,
        "calibration.html",
        {
            "title": "Calibration for open-set search",
            "facts": text.split("\n"),
            "rows": rows,
            "fewest": FEWEST,
            "chosen": _chosen(values),
            **pictures,
        },
    )


def _chosen(values: dict[str, Any]) -> dict[str, str] | None:
    chosen = values["chosen"]
    if chosen is None:
        return None
    ranges = {
        name: f"{per_cent(low)} to {per_cent(high)}"
        for name in ("rate_interval", "detection_rate_interval")
        for low, high in [chosen[name]]
    }
    low, high = chosen["interval"]
    return {
        "threshold": f"{chosen['threshold']:.4f}",
        "interval": f"{low:.4f} to {high:.4f}",
        "wanted": per_cent(chosen["wanted"]),
        "rate": per_cent(chosen["rate"]),
        "detection_rate": per_cent(chosen["detection_rate"]),
        **ranges,
    }


def plot_distances(found: OpenSet, threshold: float | None) -> Figure:
    """Draw the densities of genuine and impostor distances, and of searches for those not there."""
    figure, axes = _figure("distance", "share in a bin (%)", "Distances of the trials")
    histogram = found.histogram
    for counted, label, style in (
        (histogram.genuine, f"genuine ({len(found.genuine):,})", "-"),
        (histogram.impostor, f"impostors ({found.impostors:,})", "--"),
    ):
        shares = 100 * counted / max(1, counted.sum())
        axes.stairs(shares, histogram.edges, label=label, ls=style, lw=1.6)
    finite = found.others[np.isfinite(found.others)]
    nearest = np.histogram(finite, histogram.edges)[0]
    label = f"nearest of somebody not there ({found.searches:,})"
    axes.stairs(100 * nearest / max(1, nearest.sum()), histogram.edges, label=label, ls=":", lw=1.8)
    _mark(axes, threshold)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    return figure


def plot_roc(found: OpenSet) -> Figure:
    """Draw TAR over FAR, with a logarithmic axis down to what can be measured."""
    figure, axes = _figure("FAR", "TAR (%)", "Verification: receiver operating characteristic")
    far = found.accepted / found.impostors
    tar = 100 * np.arange(1, len(far) + 1) / len(far)
    least = 1 / found.impostors
    axes.step(np.maximum(far, least), tar, where="post", lw=1.6)
    axes.axvspan(least, min(1.0, FEWEST * least), color="0.85", lw=0)
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 102))
    return figure


def plot_dir(found: OpenSet, threshold: float | None) -> Figure:
    """Draw DIR over the false-alarm rate, and mark the threshold."""
    figure, axes = _figure(
        "false-alarm rate", "DIR (%)", "Search: detection and identification rate (rank 1)"
    )
    ends = np.unique(np.concatenate([found.others, found.first]))
    ends = ends[np.isfinite(ends)]
    alarms = np.searchsorted(np.sort(found.others), ends, side="right") / found.searches
    right = np.sort(found.first[found.right & found.mated])
    rate = 100 * np.searchsorted(right, ends, side="right") / max(1, int(found.mated.sum()))
    least = 1 / found.searches
    axes.step(np.maximum(alarms, least), rate, where="post", lw=1.6)
    axes.axvspan(least, min(1.0, FEWEST * least), color="0.85", lw=0)
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 102))
    if threshold is not None:
        number, searches = found.false_alarm_rate(threshold)
        detected, mated = found.detected(threshold)
        axes.plot(max(number / searches, least), 100 * detected / mated, "o", color="C3", zorder=3)
    return figure


def _figure(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    return figure, axes


def _mark(axes: Axes, threshold: float | None) -> None:
    if threshold is not None and np.isfinite(threshold):
        axes.axvline(threshold, color="C3", lw=1.2, label=f"threshold {threshold:.4f}")
