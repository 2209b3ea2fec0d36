"""The command line of ``reid``; its entry point is :func:`main`."""

from reid.cli.main import main

__all__ = ["main"]
