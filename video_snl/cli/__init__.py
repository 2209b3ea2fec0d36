"""The command line of ``video-snl``; its entry point is :func:`main`."""

from video_snl.cli.main import main

__all__ = ["main"]
