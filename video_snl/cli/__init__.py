"""The command line of ``video-snl``; its entry point is :func:`main`, and of ``reid`` the other."""

import importlib

from video_snl.cli.main import main
from video_snl.utils.owners import say_other_owner

__all__ = ["main", "start_reid"]


def start_reid() -> int:
    """Start the program ``reid``, unless its package may be another distribution's.

    It starts here since the other distribution's files take the place of those in ``reid``, and
    what they import need not be there.

    Returns:
        The exit code; 2 where another distribution has files of ``reid``.
    """
    if say_other_owner():
        return 2
    code: int = importlib.import_module("reid.cli.main").main()
    return code
