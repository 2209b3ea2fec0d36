"""A file of features that is made in parts, and brought up to date.

The parts of FILE are files of features in the folder ``FILE.parts``: a command that was interrupted
finds there what it had computed, and one that is given again after videos were added, or have
changed, computes theirs alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from video_snl.data.video.file_lists import LabelledVideo
from video_snl.errors import UserError
from video_snl.runs.features import FeatureTable, read_features, write_features
from video_snl.utils.counts import counts
from video_snl.utils.files import make_folder, remove_left_overs, state_of, writing
from video_snl.utils.locks import Held, locked
from video_snl.utils.progress import counted
from video_snl.utils.text import escaped

__all__ = ["FeatureFile", "FeatureParts", "PartFiles", "VideoFeatures"]

Compute = Callable[[Sequence[str]], Generator[tuple[str, "VideoFeatures | UserError"], None, None]]
"""From paths to pairs of one of them and its features, or what was wrong with it."""

# A part is written after so many videos or seconds.
_PART_VIDEOS, _PART_SECONDS = 64, 30.0
# Settings that the vectors depend on, with their names for people.
_COMPARED = {
    "network": "network",
    "sha256": "weights",
    "input": "input",
    "clips": "--clips",
    "crops": "--crops",
    "per": "--per",
}


class VideoFeatures(NamedTuple):
    """Features of a video: numbers of the clips (R,), their times (R, 2), vectors (R, D)."""

    clips: np.ndarray
    times: np.ndarray
    vectors: np.ndarray


class PartFiles:
    """The parts of a file that is being made, in a folder beside it.

    Args:
        target: The file.
        suffix: Suffix of the parts; None: that of the file.
    """

    def __init__(self, target: Path, suffix: str | None = None) -> None:
        self.target, self.suffix = target, suffix or target.suffix
        self.folder = target.with_name(f"{target.name}.parts")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other commands from making the same file.

        Raises:
            UserError: One does so now.
        """
        make_folder(self.folder, f"the parts of {self.target}", "give another --output")
        try:
            with locked(self.folder / "lock"):
                remove_left_overs(self.folder, [path.name for path in self.files()])
                remove_left_overs(self.target.parent, [self.target.name])
                yield
        except Held as error:
            raise UserError(
                f"another command writes {self.target} now ({error}): wait for it, or give "
                "another --output"
            ) from error
        finally:
            with suppress(OSError):  # with parts in it, it stays
                self.folder.rmdir()

    def files(self) -> list[Path]:
        """Return the parts that are there, in order."""
        return sorted(self.folder.glob(f"part-*{self.suffix}"))

    def remove(self) -> None:
        """Remove all parts."""
        for path in self.files():
            path.unlink(missing_ok=True)

    def say_kept(self) -> None:
        """Say on stderr how a command that is interrupted goes on."""
        line = f"what is done is in {self.folder}; the same command goes on"
        print(line, file=sys.stderr, flush=True)


class FeatureParts(PartFiles):
    """The parts of a file of features of videos, each of which is such a file."""

    def readable(self) -> Iterator[tuple[Path, FeatureTable]]:
        """Yield the parts that can be read; those that cannot are set aside, and named."""
        for path in self.files():
            try:
                table = read_features(path)
                if not np.isfinite(table.features).all():
                    raise UserError(f"{path} has values that are no numbers: its videos")
            except UserError as error:
                aside = path.with_name(f"{path.name}.damaged")
                path.replace(aside)
                reason = str(error).rpartition(": ")[0]
                line = f"{reason}: kept as {aside.name}; its videos are computed anew"
                print(line, file=sys.stderr, flush=True)
                continue
            yield path, table

    def add(self, table: FeatureTable) -> None:
        """Write one more part."""
        numbers = [int(path.stem.removeprefix("part-")) for path in self.files()]
        name = f"part-{max(numbers, default=0) + 1:05}{self.suffix}"
        write_features(self.folder / name, table)


@dataclass
class FeatureFile:
    """A file of features that is made, or brought up to date.

    Attributes:
        target: The file.
        videos: Videos that it is to hold, in order.
        about: Settings.
        force: Replace a file of other settings or of other videos.
    """

    target: Path
    videos: list[LabelledVideo]
    about: Mapping[str, Any]
    force: bool
    _states: dict[str, tuple[int, int]] = field(default_factory=dict)
    _width: tuple[int, str] | None = None  # numbers of a vector, and where it is from

    def update(self, compute: Compute) -> FeatureTable | None:
        """Compute what is missing, write the file, and return what it holds; None for nothing.

        Raises:
            UserError: The file, or the parts of one, are of other settings or of other videos.
        """
        parts = FeatureParts(self.target)
        # Taken before anything is read: a video that changes meanwhile is read again next time.
        self._states = {escaped(v.path): state_of(v.path) or (-1, -1) for v in self.videos}
        with parts.alone():
            before = self._stored()
            found = {} if before is None else self._usable(self.target, before)
            for path, part in parts.readable():
                if self._fits(path, part):
                    found |= self._usable(path, part)
                else:
                    path.unlink()
            todo = [video.path for video in self.videos if escaped(video.path) not in found]
            if found:
                there = f"{len(found):,} of {counts(len(self.videos), 'video')}"
                print(f"{there} are computed already", file=sys.stderr, flush=True)
            failed = self._compute(compute, todo, found, parts)
            if not found:
                return None
            table = self._table(self.videos, found, failed)
            computed = len(failed) < len(todo) or parts.files()
            if before is None or computed or not _same_rows(before, table):
                with writing("--output", str(self.target)):
                    write_features(self.target, table)
            parts.remove()
        return table

    def _stored(self) -> FeatureTable | None:
        """Read the file; None where there is none, or where it is to be replaced.

        Raises:
            UserError: It is damaged, or of other settings or videos, and not to be replaced.
        """
        if not self.target.exists():
            return None
        try:
            table = read_features(self.target)
        except UserError:
            if self.force:
                return None
            raise
        return table if self._fits(self.target, table) else None

    def _fits(self, path: Path, table: FeatureTable) -> bool:
        """Tell whether what was computed can be used; it cannot where it is to be replaced.

        Raises:
            UserError: It is of other settings or videos, and not to be replaced.
        """
        found = _differences(table.about, self.about)
        if found and not self.force:
            raise UserError(
                f"{path} holds features of other settings ({'; '.join(found)}): give another "
                "--output, or --force to replace them"
            )
        wanted = {escaped(video.path) for video in self.videos}
        if not found:
            self._check_width(table.features, str(path))
        others = sorted(set(table.paths) - wanted)
        if others and not self.force:
            raise UserError(
                f"{path} holds features of {counts(len(others), 'video')} that "
                f"{'is' if len(others) == 1 else 'are'} not asked for now, such as {others[0]}: "
                "give another --output, or --force to leave them out"
            )
        return not found

    def _check_width(self, vectors: np.ndarray, source: str) -> None:
        """Refuse vectors that are of another width than those before.

        Raises:
            UserError: They are.
        """
        width = vectors.shape[1]
        self._width = self._width or (width, source)
        if width != self._width[0]:
            raise UserError(
                f"{source} has vectors of {width:,} numbers and {self._width[1]} of "
                f"{self._width[0]:,}, though their settings are the same: give another --output"
            )

    def _usable(self, path: Path, table: FeatureTable) -> dict[str, VideoFeatures]:
        """Return the features in a file of the videos that have not changed since."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(table.paths):
            rows.setdefault(name, []).append(row)
        usable = {}
        written = path.stat().st_mtime
        for video in self.videos:
            own = rows.get(escaped(video.path))
            if own is not None and self._is_as_read(video.path, table, own[0], written):
                usable[escaped(video.path)] = VideoFeatures(
                    table.clips[own], table.times[own], table.features[own]
                )
        return usable

    def _is_as_read(self, path: str, table: FeatureTable, row: int, written: float) -> bool:
        """Tell whether a video is as it was read; of the first files, whether it is older."""
        state = self._states[escaped(path)]
        if table.states is None:
            return 0 <= state[1] / 1e9 <= written
        return tuple(table.states[row].tolist()) == state and state[1] >= 0

    def _compute(
        self,
        compute: Compute,
        todo: list[str],
        found: dict[str, VideoFeatures],
        parts: FeatureParts,
    ) -> list[str]:
        """Add the features of videos to ``found``, in parts; return those that cannot be read."""
        if not todo:
            return []
        failed: list[str] = []
        waiting: list[LabelledVideo] = []
        by_path = {video.path: video for video in self.videos}

        def write() -> None:
            if waiting:
                with writing("--output", str(self.target)):
                    parts.add(self._table(waiting, found, []))
                waiting.clear()

        written = time.monotonic()
        try:
            with closing(compute(todo)) as results:
                for path, features in counted(results, len(todo), "computed"):
                    if isinstance(features, UserError):
                        print(f"video-snl features: error: {features}", file=sys.stderr, flush=True)
                        failed.append(escaped(path))
                        continue
                    self._check_width(features.vectors, escaped(path))
                    found[escaped(path)] = features
                    waiting.append(by_path[path])
                    if len(waiting) == _PART_VIDEOS or time.monotonic() - written > _PART_SECONDS:
                        write()
                        written = time.monotonic()
        except (KeyboardInterrupt, SystemExit):
            write()
            parts.say_kept()
            raise
        return sorted(failed)

    def _table(
        self, videos: Sequence[LabelledVideo], found: Mapping[str, VideoFeatures], failed: list[str]
    ) -> FeatureTable:
        rows = [(video, found[name]) for video in videos if (name := escaped(video.path)) in found]
        repeated = [video for video, own in rows for _ in own.clips]
        missing = {escaped(video.path): [video.label, video.part] for video in self.videos}
        return FeatureTable(
            paths=[escaped(video.path) for video in repeated],
            clips=np.concatenate([own.clips for _, own in rows]),
            times=np.concatenate([own.times for _, own in rows]),
            labels=[video.label for video in repeated],
            parts=[video.part for video in repeated],
            features=np.concatenate([own.vectors for _, own in rows]),
            about={
                **self.about,
                "unreadable": failed,
                "unreadable_labels": [missing[name] for name in failed],
            },
            states=np.array([self._states[escaped(video.path)] for video in repeated], np.int64),
        )


def _same_rows(before: FeatureTable, now: FeatureTable) -> bool:
    """Tell whether two tables are of the same videos, with the same labels and parts."""
    return (
        list(before.paths) == list(now.paths)
        and list(before.labels) == list(now.labels)
        and list(before.parts) == list(now.parts)
        and before.states is not None
        and all(
            before.about.get(name, []) == now.about[name]
            for name in ("unreadable", "unreadable_labels")
        )
    )


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in which settings features that are there differ from those that are asked for."""
    found = []
    for key, name in _COMPARED.items():
        there, here = stored.get(key), wanted.get(key)
        if there == here:
            continue
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            entries = [entry for entry in here if there.get(entry) != here[entry]]
            found += [f"{entry} {there.get(entry)}, not {here[entry]}" for entry in entries]
        elif key == "sha256":
            there, here = (
                f"{about.get('weights')} (SHA-256 {str(about.get(key))[:8]}...)"
                for about in (stored, wanted)
            )
            found.append(f"{name} {there}, not {here}")
        else:
            found.append(f"{name} {there}, not {here}")
    return found
