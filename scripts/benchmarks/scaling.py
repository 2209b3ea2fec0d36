"""Growth of cost with size: measurement in a process of its own, exponents, tables, plots."""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Curve = tuple[Sequence[float], Sequence[Sequence[float]]]  # sizes, and what each one's turns cost


@dataclass(frozen=True)
class Growth:
    """Power law that was fitted to costs, by least squares of the logarithms.

    Attributes:
        exponent: Its exponent over all sizes.
        residual: Root mean square of the residuals of ln cost; 0.1 means off by 10 %.
        last: Exponent between the two largest sizes, where constant costs weigh least.
    """

    exponent: float
    residual: float
    last: float

    def __str__(self) -> str:
        return f"{self.exponent:.2f} (residual {self.residual:.2f}, last step {self.last:.2f})"


def fit_growth(sizes: Sequence[float], costs: Sequence[float]) -> Growth:
    """Fit a power law to at least two sizes and their costs, all above 0.

    Raises:
        ValueError: Fewer sizes, other numbers of sizes and costs, or a value that is not above 0.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError(f"sizes {sizes} and costs {costs}: give two sizes or more, all above 0")
    x, y = np.log(sorted(zip(sizes, costs, strict=True))).T
    exponent, offset = np.polyfit(x, y, 1)
    residual = float(np.sqrt(np.mean((y - exponent * x - offset) ** 2)))
    last = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return Growth(float(exponent), residual, float(last))


@dataclass(frozen=True)
class Cost:
    """Cost of some work that was repeated in a process of its own.

    Attributes:
        seconds: Wall seconds of each turn.
        cpu: Seconds of processor time of each turn, all threads of the process together.
        peak_mib: Largest resident memory while it ran, beyond that before the first turn, MiB.
        total_mib: Largest resident memory of the whole process, MiB.
        value: What the last turn returned.
    """

    seconds: list[float]
    cpu: list[float]
    peak_mib: float
    total_mib: float
    value: Any = field(default=None, repr=False)


def measure(prepare: Callable[..., Callable[[], Any]], *arguments: Any, turns: int = 3) -> Cost:
    """Measure the work that ``prepare(*arguments)`` returns, in a fresh process (Linux).

    ``prepare`` is a function at the top of a module; what it does itself is not measured.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_measured, prepare, arguments, turns).result()


def _measured(prepare: Callable[..., Callable[[], Any]], arguments: Any, turns: int) -> Cost:
    work = prepare(*arguments)
    prepared = _resident("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    seconds, cpu, value = [], [], None
    for _ in range(turns):
        value = None  # that of the turn before is not part of this one's peak
        began, cpu_began = time.perf_counter(), time.process_time()
        value = work()
        cpu.append(time.process_time() - cpu_began)
        seconds.append(time.perf_counter() - began)
    peak = _resident("VmHWM")
    return Cost(seconds, cpu, max(0.0, peak - before), max(peak, prepared), value)


def _resident(entry: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"error: /proc/self/status has no {entry}; measure memory on Linux.")


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Write minimum, median and maximum, with so many significant digits."""
    three = min(values), statistics.median(values), max(values)
    return " / ".join(rounded(value, digits) for value in three)


def rounded(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, and all that are left of the point."""
    left = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(0, digits - left)}f}"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


@dataclass(frozen=True)
class Panel:
    """One plot of a figure: its title, the unit of its values, and its curves by name."""

    title: str
    unit: str
    curves: Mapping[str, Curve]


def growth_of_medians(sizes: Sequence[float], costs: Sequence[Sequence[float]]) -> Growth:
    """Fit the medians of the turns over all sizes."""
    return fit_growth(sizes, [statistics.median(some) for some in costs])


def plot_growth(
    path: Path,
    panels: Sequence[Panel],
    size: str = "N",
    growth: Callable[[Sequence[float], Sequence[Sequence[float]]], Growth] = growth_of_medians,
) -> None:
    """Draw medians over sizes with their ranges, both axes logarithmic, exponents in the legend.

    Args:
        growth: Fits the costs of the turns; its exponent stands in the legend.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5 * ((len(panels) + 1) // 2)), layout="constrained")
    axes_of = figure.subplots((len(panels) + 1) // 2, 2).flat
    for axes, panel in zip(axes_of, panels, strict=False):
        for number, (name, (sizes, values)) in enumerate(panel.curves.items()):
            middle = [statistics.median(some) for some in values]
            fitted = f": {size}^{growth(sizes, values).exponent:.2f}" if len(sizes) > 1 else ""
            axes.loglog(sizes, middle, marker="o", color=f"C{number}", label=f"{name}{fitted}")
            low, high = [min(some) for some in values], [max(some) for some in values]
            axes.fill_between(sizes, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
        axes.set(title=panel.title, xlabel=size, ylabel=panel.unit)
        axes.grid(alpha=0.3, which="major")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    figure.savefig(path, dpi=130)
