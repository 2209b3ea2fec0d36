"""What arXiv:2108.02451 prints in its tables, as far as a readable source has it. Without torch.

The sizes are those that docs/paper-tables.md discusses. The printed accuracies of these tables
were in no source at hand: none is given here. Who has the paper can give them (``read_figures``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from video_snl.config.files import load_text
from video_snl.errors import UserError

__all__ = ["PRINTED", "Printed", "read_figures"]


@dataclass(frozen=True)
class Printed:
    """What the paper's row says that a block adds, as printed; None where that is not at hand."""

    parameters: str | None = None
    multiply_adds: str | None = None


PRINTED: dict[int, dict[str, Printed]] = {
    6: {
        "nl": Printed("+2.09 M", "+0.41 G"),
        "a2": Printed("+2.62 M"),
        "se": Printed("+2.62 M"),
        "ge": Printed("+5.64 M"),
        "snl": Printed("+2.62 M", "+0.51 G"),
    },
    8: {
        "nl": Printed(None, "+4.31 G"),
        "snl": Printed(None, "+5.37 G"),
    },
}
"""By table and block."""


def read_figures(path: Path, rows: list[str]) -> dict[str, float]:
    """Printed accuracies in per cent, by row, of a YAML file that a reader of the paper has made.

    Raises:
        UserError: The file cannot be read, or names other rows, or no numbers from 0 to 100.
    """
    try:
        values = load_text(path.read_text(encoding="utf-8"), f"--paper {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--paper {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"--paper {path}: expected lines such as '{rows[-1]}: 75.0'.")
    if unknown := [str(row) for row in values if row not in rows]:
        raise UserError(
            f"--paper {path}: no row {', '.join(unknown)} in this table; --dry-run lists them."
        )
    for row, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 100:
            raise UserError(f"--paper {path}: {row}: {value} is no number of per cent.")
    return {str(row): float(value) for row, value in values.items()}
