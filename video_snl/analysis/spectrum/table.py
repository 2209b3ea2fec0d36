"""What was measured, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from video_snl.analysis.spectrum.numbers import mean_and_spread, rms
from video_snl.analysis.spectrum.structure import BlockSpectra, Measured, UnitFilter

__all__ = ["table"]

_SPECTRUM = (
    ("block", 22),
    ("positions", 11),
    ("effective rank", 17),
    ("max |mu|", 19),
    ("symmetry error", 21),
    ("complex", 9),
    ("mu > 0, = 0, < 0", 0),
)
_RESPONSE = (
    ("block", 22),
    ("unit", 5),
    ("channels", 18),
    ("mean lambda", 13),
    *((f"lambda {at:g}", 11) for at in (0, 0.5, 1, 1.5)),
    ("lambda 2", 0),
)


def table(measured: Measured) -> str:
    """Spectra of all blocks with an affinity, then the responses of their units, then notes."""
    several = f"{len(measured.sources)} inputs, mean ± standard deviation"
    what = several if len(measured.sources) > 1 else measured.sources[0]
    lines = [f"{measured.checkpoint}: {what}", ""]
    with_spectra = [block for block in measured.blocks if block.graphs]
    if with_spectra:
        lines += [_row([name for name, _ in _SPECTRUM], _SPECTRUM)]
        lines += [_row(_spectrum(block), _SPECTRUM) for block in with_spectra]
        lines.append("")
    if any(block.units for block in measured.blocks):
        lines.append("rms gain of the filter F(A, Z), the residual apart:")
        lines += [_row([name for name, _ in _RESPONSE], _RESPONSE)]
        lines += [row for block in measured.blocks for row in _responses(block)]
        lines.append("")
    for block in measured.blocks:
        lines += [f"{block.name} {block.position}: {note}" for note in block.notes]
    return "\n".join(lines).rstrip()


def _spectrum(block: BlockSpectra) -> list[str]:
    graphs = block.graphs
    sizes = sorted({len(graph.eigenvalues) for graph in graphs})
    counts = (
        mean_and_spread(getattr(graph, name) for graph in graphs)["mean"]
        for name in ("smooth", "null", "oscillating")
    )
    share = sum(graph.complex_share for graph in graphs) / len(graphs)
    return [
        block.position,
        str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}",
        _spread([graph.effective_rank for graph in graphs]),
        _spread([graph.radius for graph in graphs]),
        _spread([graph.symmetry_error for graph in graphs]),
        f"{share:.1%}",
        ", ".join(f"{count:g}" for count in counts),
    ]


def _responses(block: BlockSpectra) -> Iterator[str]:
    for unit in block.units:
        yield _row([block.position, str(unit.unit), "all", "", *_gains(unit, rms(unit))], _RESPONSE)
        for number, group in enumerate(unit.groups):
            named = f"group {number} ({len(group.channels)})"
            start = ["", "", named, f"{group.mean_frequency:.2f}"]
            yield _row([*start, *_gains(unit, group.gain.tolist())], _RESPONSE)


def _gains(unit: UnitFilter, gains: list[float]) -> list[str]:
    """At 0, 0.5, 1, 1.5 and 2."""
    last = len(unit.frequencies) - 1
    return [f"{gains[quarter * last // 4]:.3g}" for quarter in range(5)]


def _spread(values: list[float]) -> str:
    found = mean_and_spread(values)
    mean, std = found["mean"], found["std"]
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


def _row(cells: Sequence[str], columns: Sequence[tuple[str, int]]) -> str:
    """Cells side by side; one that is too long moves the others."""
    return "".join(
        f"{cell:{max(width, 1)}}" if width == 0 or len(cell) < width else f"{cell} "
        for cell, (_, width) in zip(cells, columns, strict=True)
    ).rstrip()
