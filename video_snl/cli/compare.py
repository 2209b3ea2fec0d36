"""The command ``video-snl compare``. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from video_snl.config.options import Json, option, option_group, options_of, positional

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["COMPARE", "Compare", "compare"]

COMPARE = """Compare evaluated runs with the first of them: accuracies and paired differences.
Reads what video-snl evaluate wrote of each; all must be evaluated on the same list. Runs that share
all settings but the seed are one row. Prints a table and writes a page."""


@option_group
class Compare(Json):
    """Options of ``compare``.

    Args:
        runs: Folders of runs, or folders that video-snl evaluate --output wrote; two or more.
        page: The HTML page to write.
        strips: Most film strips on the page, of videos that became wrong or right; 0 for none.
    """

    runs: list[str] = positional("RUN", nargs="+")
    page: str = option("comparison.html", metavar="FILE")
    strips: int = option(24, metavar="N")


def compare(arguments: Namespace) -> int:
    """Run ``compare``."""
    options = options_of(Compare, arguments)
    from video_snl.commands.compare import compare

    return compare(options.runs, page=options.page, strips=options.strips, as_json=options.json)
