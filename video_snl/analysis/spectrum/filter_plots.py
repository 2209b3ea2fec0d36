"""Plots of spectra, responses and parts of signals, drawn without a display.

Each function writes a PNG, whole or not at all, and makes the folder of ``path``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from video_snl.analysis.spectrum.filters import Parts, ResponseGain, complex_share, response_gain
from video_snl.utils.files import replace_file

__all__ = [
    "plot_chebyshev",
    "plot_decay",
    "plot_gain",
    "plot_groups",
    "plot_parts",
    "plot_response",
    "plot_spectrum",
]

_FREQUENCY = r"graph frequency $\lambda$ of $L = I - A$"
_RMS_GAIN = r"Frobenius norm / $\sqrt{C_s}$, the rms gain"
_LEAST_SHOWN = 1e-8  # times the largest eigenvalue; smaller ones are rounding
_COLOURS = {"smooth": "tab:blue", "null": "lightgrey", "oscillating": "tab:red"}
_NAMES = {
    "smooth": r"smooth, $\lambda < 1$",
    "null": r"null space, $\lambda = 1$",
    "oscillating": r"oscillating, $\lambda > 1$",
}


def plot_spectrum(eigenvalues: Tensor, path: Path | str, *, title: str = "") -> None:
    """Plot the eigenvalues of A in the complex plane, and a histogram of their real parts.

    Shape: (B, N), real or complex; those of all batch elements are plotted together.
    """
    share = 100 * float(complex_share(eigenvalues).mean())
    values = _array(eigenvalues).ravel().astype(complex)
    figure, (plane, counts) = _figure(2, "Eigenvalues of A", title)
    angle = np.linspace(0, 2 * np.pi, 200)
    plane.plot(np.cos(angle), np.sin(angle), color="grey", lw=0.8)
    distinct = np.unique(values)
    plane.scatter(distinct.real, distinct.imag, s=10, alpha=0.5)
    plane.set(xlabel="real part", ylabel="imaginary part", aspect="equal", adjustable="datalim")
    plane.set_title(f"eigenvalues, {share:.3g} % complex, and the unit circle", fontsize=10)
    low, high = min(-1.0, values.real.min()), max(1.0, values.real.max())
    # Of an odd number of bins, one has zero in its middle; half a count keeps single ones visible.
    counts.hist(values.real, bins=61, range=(low, high))
    counts.set(xlabel="real part", ylabel="number of eigenvalues", yscale="log", ylim=(0.5, None))
    counts.xaxis.set_major_locator(MaxNLocator(5))
    _save(figure, path)


def plot_response(
    frequencies: Tensor, response: Tensor, path: Path | str, *, title: str = ""
) -> None:
    """Plot the gains of a response over the graph frequencies. Shapes: (L,), (L, Cs, C)."""
    plot_gain(frequencies, response_gain(response), response.shape[1], path, title=title)


def plot_gain(
    frequencies: Tensor, gain: ResponseGain, width: int, path: Path | str, *, title: str = ""
) -> None:
    """Plot known gains over the graph frequencies (L,); ``width`` is Cs."""
    at = _array(frequencies)
    values = _array(gain.singular_values)
    figure, (axes,) = _figure(1, "Response of the filter", title)
    axes.fill_between(at, values.min(1), values.max(1), alpha=0.15, label="singular values")
    axes.plot(at, values[:, :: max(1, values.shape[1] // 16)], color="grey", lw=0.5, alpha=0.6)
    axes.plot(at, _array(gain.spectral), label="spectral norm, the largest gain")
    axes.plot(at, _array(gain.rms(width)), label=_RMS_GAIN)
    axes.set(xlabel=f"{_FREQUENCY} (0 smooth, 2 oscillating)", ylabel="gain", ylim=(0, None))
    _legend_below(figure, axes)
    _save(figure, path)


def plot_groups(
    frequencies: Tensor, gains: Mapping[str, Tensor], path: Path | str, *, title: str = ""
) -> None:
    """Plot the gains of groups of output channels, by label. Shapes: (L,), gains (L,) each."""
    figure, (axes,) = _figure(1, "Responses of groups of channels", title)
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(gains)))
    for (label, gain), colour in zip(gains.items(), colours, strict=True):
        axes.plot(_array(frequencies), _array(gain), color=colour, label=label)
    axes.set(xlabel=f"{_FREQUENCY} (0 smooth, 2 oscillating)", ylabel="rms gain", ylim=(0, None))
    _legend_below(figure, axes)
    _save(figure, path)


def plot_decay(
    sizes: Sequence[Tensor], ranks: Sequence[float], path: Path | str, *, title: str = ""
) -> None:
    """Plot |mu| from the largest on, for each graph and on average, and the effective ranks.

    Args:
        sizes: descending |mu| (N,) of each graph; N may differ.
        ranks: effective rank of each graph.
        path, title: file to write and title of the plot.
    """
    # Zeros cannot be drawn on a logarithmic scale, and thousands of them say nothing.
    shown = max(2, *(int((x > _LEAST_SHOWN * x.max()).sum()) for x in sizes))
    curves = np.full((len(sizes), shown), np.nan)
    for row, values in zip(curves, sizes, strict=True):
        row[: len(values)] = _array(values[:shown])
    curves[curves <= 0] = np.nan
    figure, (axes,) = _figure(1, "Decay of the eigenvalues of A", title)
    numbers = np.arange(1, shown + 1)
    axes.plot(numbers, curves.T, color="tab:blue", lw=0.8, alpha=0.4)
    known = np.isfinite(curves).any(0)
    axes.plot(numbers[known], np.nanmean(curves[:, known], 0), color="black", label="mean")
    low, high = min(ranks), max(ranks)
    axes.axvspan(low, high, color="tab:red", alpha=0.15)
    axes.axvline(sum(ranks) / len(ranks), color="tab:red", ls="--", label="effective rank, mean")
    axes.set(
        xlabel="number of the eigenvalue, largest first",
        ylabel=r"size of the eigenvalue $|\mu|$ of $A$",
        xscale="log",
        yscale="log",
    )
    _legend_below(figure, axes)
    _save(figure, path)


def plot_chebyshev(coefficients: Tensor, path: Path | str, *, title: str = "") -> None:
    """Plot the sizes of the weights of the Chebyshev polynomials. Shape: (K + 1, Cs, C)."""
    gain = response_gain(coefficients)
    values, rms = _array(gain.singular_values), _array(gain.rms(coefficients.shape[1]))
    degrees = np.arange(len(values))
    figure, (norms, curves) = _figure(2, "Chebyshev coefficients", title)
    norms.bar(degrees - 0.2, _array(gain.spectral), 0.4, label="spectral norm, the largest gain")
    norms.bar(degrees + 0.2, rms, 0.4, label=_RMS_GAIN)
    norms.set(xlabel="degree k of $T_k(A)$", ylabel="size of $C_k$", xticks=degrees)
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(degrees)))
    for degree, colour in zip(degrees, colours, strict=True):
        curves.plot(values[degree], color=colour, label=f"$C_{{{degree}}}$")
    curves.set(
        xlabel="number of the singular value, largest first",
        ylabel="singular value of $C_k$",
        ylim=(0, None),
    )
    curves.legend(frameon=False, fontsize=8)
    _legend_below(figure, norms)
    _save(figure, path)


def plot_parts(parts: Parts, path: Path | str, *, title: str = "") -> None:
    """Plot the energies, over the batch, of the parts of a signal before and after the filter."""
    figure, (shares, gains) = _figure(2, "Parts of the signal", title)
    quantities = {
        "size": "eigenvectors",
        "signal": "energy of $Z$",
        "product": "of $A Z$",
        "output": "of $F(A, Z)$",
    }
    totals = [parts.totals(quantity) for quantity in quantities]
    sums = {name: np.array([total[name] for total in totals]) for name in _NAMES}
    whole = np.maximum(sum(sums.values()), np.finfo(float).tiny)
    bottom = np.zeros(len(quantities))
    for name, label in _NAMES.items():
        share = 100 * sums[name] / whole
        shares.bar(
            list(quantities.values()), share, bottom=bottom, color=_COLOURS[name], label=label
        )
        bottom += share
    shares.set(xlabel="what is divided", ylabel="share (%)", ylim=(0, 100))
    for offset, (name, (_, before, *after)) in enumerate(sums.items()):
        gain = np.sqrt(np.array(after) / before) if before > 0 else np.zeros(2)
        gains.bar(np.arange(2) + 0.25 * (offset - 1), gain, 0.25, color=_COLOURS[name])
    gains.set_xticks([0, 1], ["by $A$", "by $F(A, \\cdot)$"])
    gains.set(xlabel="applied to $Z$", ylabel="gain of the amplitude (factor)")
    _legend_below(figure, shares)
    _save(figure, path)


def _figure(columns: int, what: str, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9 if columns == 2 else 7, 3.8), layout="constrained")
    figure.suptitle(f"{what}: {title}" if title else what)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for each in axes:
        each.grid(alpha=0.3)
        each.set_axisbelow(True)
    return figure, axes


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _save(figure: Figure, path: Path | str) -> None:
    FigureCanvasAgg(figure)
    replace_file(Path(path), lambda file: figure.savefig(file, dpi=130, format="png"))
