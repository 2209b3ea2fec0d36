"""Datasets that are generated once, into the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_snl.errors import UserError
from video_snl.utils.json_text import to_json
from video_snl.utils.locks import waiting_lock, whole_folder

__all__ = ["Generated", "cache_folder", "progress"]


def cache_folder(name: str) -> Path:
    """Return a folder of the cache: below VIDEO_SNL_CACHE, else XDG_CACHE_HOME, else ~/.cache."""
    named = os.environ.get("VIDEO_SNL_CACHE") or os.environ.get("XDG_CACHE_HOME")
    base = Path(named).expanduser() if named else Path.home() / ".cache"
    return base / "video-snl" / name


@dataclass(frozen=True)
class Generated:
    """A dataset that is a function of a few values.

    Args:
        what: Name in messages, such as ``the sample dataset``.
        values: Values that the files are a function of, as JSON holds them.
        generate: Writes the files into a new, empty folder.
        marker: The file, with the values, that is written last and says that the set is whole.
        place: Option or variable that says where its folder is, for messages.
    """

    what: str
    values: dict[str, Any]
    generate: Callable[[Path], None]
    marker: str = "sample.json"
    place: str = "VIDEO_SNL_CACHE or --data.root"

    def ensure(self, root: Path) -> Path:
        """Return the folder, in which the set is generated first if it is not there yet.

        A second process that asks at the same time waits for the first; one that is killed leaves
        nothing behind that would be taken for the set.

        Raises:
            UserError: ``root`` holds something else, or cannot be written.
        """
        if self._is_complete(root):
            return root
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            lock = root.parent / f".{root.name}.lock"
            with waiting_lock(lock, f"makes {self.what}"):
                if not self._is_complete(root):
                    self._replace(root)
        except OSError as error:
            raise UserError(
                f"{self.what} needs a folder to write to, {root} is not one ({error}): give "
                f"another place by {self.place}"
            ) from error
        return root

    def write(self, root: Path) -> None:
        """Write the files and, last, the marker below ``root``."""
        self.generate(root)
        (root / self.marker).write_text(to_json(self._identity(), indent=2) + "\n")

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256(to_json(self.values, sort_keys=True).encode()).hexdigest()
        return {**self.values, "sha256": digest}

    def _is_complete(self, root: Path) -> bool:
        marker = root / self.marker
        if not marker.is_file():
            return False
        try:
            found = json.loads(marker.read_text())
        except ValueError:
            return False
        return isinstance(found, dict) and found.get("sha256") == self._identity()["sha256"]

    def _replace(self, root: Path) -> None:
        """Generate beside ``root``, then put the complete set in its place."""
        if root.exists() and not (root / self.marker).is_file() and any(root.iterdir()):
            raise UserError(
                f"{self.what} needs a new or empty folder, and {root} holds other files: give "
                f"another place by {self.place}"
            )
        root = Path(os.path.realpath(root))  # the folder is replaced, not a link to it
        with whole_folder(root) as making:
            self.write(making)
            if root.exists():
                # A folder that is in the way moves out first: rename wants the place to be free.
                root.rename(making / "replaced")
        shutil.rmtree(root / "replaced", ignore_errors=True)


def progress(done: Iterator[None], total: int, what: str) -> None:
    """Exhaust ``done`` and count it: one line that is updated on a terminal, else ten lines."""
    terminal, start, shown = sys.stderr.isatty(), time.monotonic(), 0
    percent_step = 1 if terminal else 10
    for count, _ in enumerate(done, 1):
        percent = 100 * count // total
        if percent // percent_step != shown // percent_step:
            shown = percent
            text = f"making {what}: {count:,} of {total:,} ({percent} %)"
            print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr)
    seconds = time.monotonic() - start
    print(f"{chr(10) if terminal else ''}made in {seconds:.0f} s", file=sys.stderr, flush=True)
