"""Parser and argument types that the command lines of benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["checkouts", "new_parser", "positive"]


def checkouts(folders: Sequence[Path]) -> list[Path]:
    """Return the absolute folders of versions of the code, each of which must hold one.

    Without, Python would go on to the version that is installed, and time that.
    """
    for folder in folders:
        if not (folder / "video_snl").is_dir():
            raise SystemExit(f"{folder} is no checkout: it has no folder video_snl")
    return [folder.resolve() for folder in folders]


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help shows the description of a script as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def positive(text: str) -> int:
    """Parse a number from 1, as the ``type`` of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number
