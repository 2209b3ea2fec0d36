"""A process that adds to a gallery when it is told to, for the tests that kill it or its server."""

from __future__ import annotations

import sys
import time
from subprocess import PIPE, Popen

from reid.galleries.entries import entries_of
from reid.galleries.places import open_gallery
from reid.retrieval.features import read_features
from video_snl.errors import UserError

__all__ = ["Adding"]


class Adding:
    """Such a process; it is ready when this returns."""

    def __init__(self, where: str, features: str) -> None:
        words = [sys.executable, "-m", __name__, where, features]
        self.process = Popen(words, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert ready == "ready\n", self.process.communicate()

    def begin(self) -> None:
        """Let it add."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[bool, float, str]:
        """Wait for its end.

        Returns:
            Whether it has acknowledged the entries; the seconds that it took, else 0; its errors.
        """
        out, errors = self.process.communicate(timeout=120)
        word, _, seconds = out.strip().partition(" ")
        return word == "added", float(seconds or 0), errors


def main(where: str, features: str) -> None:
    gallery, entries = open_gallery(where), entries_of(read_features(features))
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    try:
        gallery.add(entries)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    print("added", time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
