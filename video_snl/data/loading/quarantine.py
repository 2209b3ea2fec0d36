"""Files of a run that could not be read: noted once, not tried again, and counted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from video_snl.errors import UserError
from video_snl.utils.json_text import to_json

__all__ = ["Bad", "Quarantine", "named", "tolerated"]

_SHOWN = 3  # files that a summary names
# A list so short that a share of it is less than one file may hold this many bad ones all the same.
_ALWAYS_TOLERATED = 3


@dataclass(frozen=True)
class Bad:
    """File that could not be read.

    Attributes:
        path: Path of the file.
        kind: ``error``, ``timeout`` or ``died``.
        reason: Reason in one line.
        seconds: Time that it was tried.
        time: When it was given up (ISO 8601, UTC).
    """

    path: str
    kind: str
    reason: str
    seconds: float
    time: str


def tolerated(files: int, max_failures: float) -> int:
    """Return how many of a number of files may be bad: max(3, floor(max_failures * files)).

    Three bad files are always tolerated, so that one of ten does not stop a run whose
    ``data.max_failures`` is the usual 0.05; ``data.max_failures=0`` tolerates none.
    """
    if max_failures <= 0:
        return 0
    return max(_ALWAYS_TOLERATED, int(max_failures * files))


class Quarantine:
    """The bad files of a run, in memory and as lines of a ``quarantine.jsonl``.

    The file is read when the quarantine is made (a resumed run tries no bad file again) and by
    :meth:`refresh`; it is made when there is something to write. Each line is one write to a file
    opened for appending, so that several processes may share it.

    Args:
        file: The ``quarantine.jsonl``; None keeps the notes in memory alone.
        max_failures: Share of a list's files that may be bad; see :func:`tolerated`.
        noun: Name of the files in messages.

    Raises:
        UserError: The file cannot be read.
    """

    def __init__(self, file: Path | None, max_failures: float, noun: str = "videos") -> None:
        self.file, self.max_failures, self.noun = file, max_failures, noun
        self.bad: dict[str, Bad] = {}
        self._damaged: set[int] = set()  # lines that were remarked on
        self.refresh()

    @classmethod
    def fresh(cls, file: Path | None, max_failures: float, noun: str) -> Quarantine:
        """Make one that knows of no earlier reading, so that every file is tried again."""
        if file is not None:
            file.unlink(missing_ok=True)
        return cls(file, max_failures, noun)

    def __contains__(self, path: str) -> bool:
        return path in self.bad

    def add(self, path: str, kind: str, reason: str, seconds: float) -> None:
        """Note a file, and say so in a line on stderr; one that is known stays as it is.

        Raises:
            UserError: The file of the quarantine cannot be written.
        """
        if path in self.bad:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.bad[path] = bad = Bad(path, kind, reason, round(seconds, 3), now)
        print(f"unreadable ({kind} after {seconds:.1f} s): {named(path, reason)}", file=sys.stderr)
        if self.file is not None:
            self._append(self.file, to_json(asdict(bad)) + "\n")

    def refresh(self) -> None:
        """Read what other processes, or an earlier part of the run, have noted.

        Raises:
            UserError: The file cannot be read.
        """
        if self.file is None:
            return
        try:
            text = self.file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(
                f"{self.file} cannot be read ({error.strerror}): check its permissions"
            ) from error
        for number, line in enumerate(text.splitlines(), 1):
            bad = self._note(number, line)
            if bad is not None:
                self.bad.setdefault(bad.path, bad)

    def check(self, paths: Iterable[str], what: str) -> int:
        """Check that not too many files of a list are bad.

        Returns:
            How many more files may be noted before this has to be asked again. Looking at a list
            takes as long as it is, so that asking after each fault would be quadratic.

        Raises:
            UserError: Too many are; the summary names the first ones.
        """
        always = tolerated(0, self.max_failures)
        if len(self.bad) <= always:
            return always - len(self.bad)
        listed = set(paths)
        bad = [self.bad[path] for path in self.bad if path in listed]
        allowed = tolerated(len(listed), self.max_failures)
        if len(bad) <= allowed:
            return allowed - len(bad)
        first = "; ".join(named(b.path, b.reason) for b in bad[:_SHOWN])
        rest = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise UserError(
            f"{len(bad)} of {len(listed)} {what} {self.noun} cannot be read, and "
            f"data.max_failures={self.max_failures:g} lets {allowed} pass: {first}{rest}"
            f"{self.listed_in()}: mend the files, take them off the list, or raise "
            "--data.max_failures"
        )

    def listed_in(self) -> str:
        """Return the end of a message: `` (all are listed in FILE)``, or nothing."""
        return "" if self.file is None else f" (all are listed in {self.file})"

    def _note(self, number: int, line: str) -> Bad | None:
        """Return the note in a line; None, and a remark, for what a full disk has left of one."""
        try:
            return Bad(**json.loads(line))
        except (ValueError, TypeError):
            if number not in self._damaged:
                self._damaged.add(number)
                print(f"{self.file}, line {number} is damaged and left out", file=sys.stderr)
            return None

    def _append(self, file: Path, line: str) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                size = os.fstat(opened).st_size
                cut = size > 0 and os.pread(opened, 1, size - 1) != b"\n"
                os.write(opened, (("\n" if cut else "") + line).encode())
            finally:
                os.close(opened)
        except OSError as error:
            raise UserError(f"{file} cannot be written ({error.strerror})") from error


def named(path: str, reason: str) -> str:
    """Return a file and why it cannot be read; most reasons begin with the file already."""
    return reason if reason.startswith(path) else f"{path}: {reason}"
