"""Parser and argument types that the command lines of benchmarks share."""

from __future__ import annotations

import argparse

__all__ = ["new_parser", "positive"]


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
