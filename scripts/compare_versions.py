#!/usr/bin/env python
"""Show that two checkouts compute the same: numbers, files, options and exit codes.

    git worktree add --detach ../old v0.1.0
    python scripts/compare_versions.py ../old .
    python scripts/compare_versions.py ../old . --only blocks ranking

    python scripts/compare_versions.py ../old . --cache ~/.cache/compare-versions

The probes of scripts/version_probes.py run in two processes for each version, side by side, with
PYTHONPATH and SRC_ROOT set to the checkout and an empty working folder. Each version takes its own
configurations. With --cache, what OLD answers is kept by its commit, and the next time only NEW is
asked: about half the time. A table says for each part how many values were compared, how many are
equal to the last bit, and the largest relative difference; then every difference has a line. Parts:

    networks  parameters and multiply-adds of every configuration
    losses    metrics of every epoch, and the weights, of tiny seeded trainings of every kind
    blocks    weights, outputs and gradients of every block, float64
    ranking   all protocols on random features, re-ranking, the figures of a trained run
    help      every option and choice of OLD is in NEW (--help all, else --help); defaults
    commands  exit codes for good and bad input; JSON and files of predict, evaluate, search, ...
    resume    runs that OLD was stopped in are trained on; its checkpoints are evaluated, exported,
              published; compared with OLD doing the same

What only NEW has (entries, options, files) is counted, and is not a difference. The wording of
text with spaces is not compared. Arrays are compared by the largest difference over the largest
value. Exit code 0: nothing differs; 1: something does; 2: a version could not be asked.
A run takes about ten minutes on two quiet cores; the commit of each version is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from version_probes import PARTS, Failed, Values

__all__ = ["Comparison", "compare", "main", "write_world"]

# Largest relative difference of a number.
BOUNDS = {
    "networks": 0.0,
    "losses": 1e-6,
    "blocks": 1e-12,
    "ranking": 1e-12,
    "help": 0.0,
    "commands": 1e-5,  # numbers are printed with six digits
    "resume": 1e-5,
}
# What one process is asked for. "losses" leaves the runs that the others of its group take.
GROUPS = (("resume", "networks", "blocks", "help"), ("losses", "ranking", "commands"))
# A choice that may go.
GONE = {"pynvvideocodec"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    parts = [part for part in PARTS if part in (options.only or PARTS)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="compare-versions-") as scratch:
        kept = Path(scratch)
        if options.cache is not None and not options.match:
            kept = options.cache.resolve() / _key(options.old)
        try:
            checkouts = options.old.resolve(), options.new.resolve()
            old, new = ask(*checkouts, parts, Path(scratch), kept, options.match)
        except VersionError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    found = {part: compare(old[part], new[part], part) for part in parts}
    print(f"OLD {_commit(options.old)}\nNEW {_commit(options.new)}\n")
    print(table(found))
    for part, comparison in found.items():
        _print_lines(f"{part}: differences", comparison.differences, options.lines)
        _print_lines(f"{part}: only in NEW", comparison.additions, options.lines)
    print(f"\n{time.monotonic() - began:.0f} s")
    return int(any(comparison.differences for comparison in found.values()))


class VersionError(RuntimeError):
    """A version could not be asked."""


def ask(
    old: Path, new: Path, parts: Sequence[str], scratch: Path, kept: Path, match: str = ""
) -> tuple[dict[str, Values], dict[str, Values]]:
    """Run the probes of both versions side by side.

    Args:
        old: Checkout; only the parts that ``kept`` lacks are asked for.
        new: Checkout.
        parts: Names of the parts.
        scratch: Folder for what the versions write.
        kept: Folder of the files that both read and of OLD's values.
        match: Regular expression that the names of the probes must contain.

    Returns:
        The values of OLD and of NEW, by part and name of the probe.

    Raises:
        VersionError: The probes of a version could not run at all.
    """
    world, answered = kept / "world", kept / "old-values"
    answered.mkdir(parents=True, exist_ok=True)
    if not world.exists():
        unfinished = Path(tempfile.mkdtemp(dir=kept))
        write_world(unfinished)
        unfinished.rename(world)
    missing = [part for part in parts if not (answered / f"{part}.pickle").exists()]
    # NEW trains runs on that OLD has made: OLD begins with that part, NEW ends with it.
    first = sorted(missing, key=lambda part: part != "resume")
    processes = {
        **_start(old, world, scratch / "old", answered, first, match, "--stopper"),
        **_start(new, world, scratch / "new", scratch / "new-values", parts, match),
    }
    try:
        _wait(processes)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return _values(answered, parts), _values(scratch / "new-values", parts)


def _start(
    checkout: Path,
    world: Path,
    folder: Path,
    values: Path,
    parts: Sequence[str],
    match: str,
    *flags: str,
) -> dict[Path, subprocess.Popen[bytes]]:
    """Start a process for each group of parts; returns them by the files they log to."""
    found = {}
    values.mkdir(parents=True, exist_ok=True)
    for number, group in enumerate(GROUPS):
        wanted = [part for part in parts if part in group]
        if not wanted:
            continue
        here = folder / str(number)
        here.mkdir(parents=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout),
            "SRC_ROOT": str(checkout),
            "OMP_NUM_THREADS": "1",
            "VIDEO_SNL_CACHE": str(here / "cache"),
            "COLUMNS": "80",
            "PYTHONWARNINGS": "ignore",
            "PROBES_MATCH": match,
        }
        script = Path(__file__).with_name("version_probes.py")
        log = folder / f"{number}.log"
        with log.open("wb") as lines:
            found[log] = subprocess.Popen(
                [sys.executable, script, checkout, world, values, *wanted, *flags],
                cwd=here,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
            )
    return found


def _wait(processes: dict[Path, subprocess.Popen[bytes]]) -> None:
    while True:
        codes = {log: process.poll() for log, process in processes.items()}
        for log, code in codes.items():
            if code:
                said = log.read_text("utf-8", errors="replace")[-4000:]
                version = log.parent.name.upper()
                raise VersionError(f"the probes of {version} ended with {code}:\n{said}")
        if None not in codes.values():
            return
        time.sleep(0.1)


def _values(folder: Path, parts: Sequence[str]) -> dict[str, Values]:
    missing = [part for part in parts if not (folder / f"{part}.pickle").exists()]
    if missing:
        raise VersionError(f"no values of {', '.join(missing)} in {folder}")
    return {part: pickle.loads((folder / f"{part}.pickle").read_bytes()) for part in parts}


def _key(checkout: Path) -> str:
    """Name the folder kept for a version: its commit, the probes and the files they read."""
    commit = _git(checkout, "rev-parse", "--short=12", "HEAD") or "no-commit"
    probes = Path(__file__).with_name("version_probes.py").read_bytes()
    content = probes + inspect.getsource(write_world).encode()
    return f"{commit}-{hashlib.sha256(content).hexdigest()[:12]}"


@dataclass
class Comparison:
    """Findings of one part.

    Attributes:
        probes: Number of probes.
        values: Numbers, words and truth values that were compared.
        equal: Those of them that are equal to the last bit.
        largest: Largest relative difference of two finite numbers within the bound or beyond it.
        differences: One line for each difference.
        additions: Values that only NEW has.
    """

    bound: float
    probes: int = 0
    values: int = 0
    equal: int = 0
    largest: float = 0.0
    differences: list[str] = field(default_factory=list)
    additions: list[str] = field(default_factory=list)

    def look(self, place: str, old: Any, new: Any) -> None:
        """Compare two values and what is in them."""
        if isinstance(old, Failed) or isinstance(new, Failed):
            for version, value in (("OLD", old), ("NEW", new)):
                if isinstance(value, Failed):
                    self.differences.append(f"{place}: fails in {version}: {value.reason}")
        elif isinstance(old, dict) and isinstance(new, dict):
            self._look_into(place, old, new)
        elif isinstance(old, list) and isinstance(new, list):
            if len(old) != len(new):
                self.differences.append(f"{place}: {len(old)} entries in OLD, {len(new)} in NEW")
                return
            for number, pair in enumerate(zip(old, new, strict=True)):
                self.look(f"{place}[{number}]", *pair)
        elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            self._look_at_arrays(place, old, new)
        elif _is_number(old) and _is_number(new):
            self._look_at_arrays(place, np.asarray(float(old)), np.asarray(float(new)))
        elif isinstance(old, str) and isinstance(new, str) and " " in old and " " in new:
            self._count(old == new)  # a sentence
        elif type(old) is not type(new) or old != new:
            self._count(False)
            self.differences.append(f"{place}: {_short(old)} in OLD, {_short(new)} in NEW")
        else:
            self._count(True)

    def _look_into(self, place: str, old: Values, new: Values) -> None:
        for name, value in old.items():
            here = f"{place}.{name}" if place else str(name)
            if name in new:
                self.look(here, value, new[name])
            else:
                self._count(False)
                self.differences.append(f"{here}: missing in NEW")
        self.additions += [f"{place}.{name}" for name in new if name not in old]

    def _look_at_arrays(self, place: str, old: np.ndarray, new: np.ndarray) -> None:
        if old.shape != new.shape or old.dtype != new.dtype:
            self.differences.append(
                f"{place}: {old.dtype}{old.shape} in OLD, {new.dtype}{new.shape} in NEW"
            )
            return
        same = (old == new) | ((old != old) & (new != new))
        self.values += same.size
        self.equal += int(same.sum())
        if same.all():
            return
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.abs(old.astype(float) - new.astype(float))[~same].max()
            scale = np.abs(old[np.isfinite(old)].astype(float)).max(initial=0.0)
        relative = float(off / scale) if scale else float("inf")
        if np.isfinite(relative):
            self.largest = max(self.largest, relative)
        if not relative <= self.bound:
            said = f": {old:.9g} in OLD, {new:.9g} in NEW" if old.ndim == 0 else ""
            self.differences.append(f"{place}: relative difference {relative:.1e}{said}")

    def _count(self, equal: bool) -> None:
        self.values += 1
        self.equal += equal


def compare(old: Values, new: Values, part: str) -> Comparison:
    """Compare the values of all probes of one part."""
    found = Comparison(BOUNDS[part], probes=len(old))
    if part == "help":
        _compare_help(found, old, new)
    else:
        found.look("", old, new)
    return found


def _compare_help(found: Comparison, old: Values, new: Values) -> None:
    """Look for every option of OLD in NEW, and for the choices of each in what NEW says of it."""
    for name, options in old.items():
        others = new.get(name, Failed("there is no such command"))
        if name.endswith((": commands", ": defaults")) or isinstance(options, Failed):
            found.look(name, options, others)
            continue
        if isinstance(others, Failed):
            found.look(name, options, others)
            continue
        if not options:
            found.differences.append(f"{name}: no options were found in OLD's help")
        for option, said in options.items():
            if option not in others:
                found._count(False)
                found.differences.append(f"{name} {option}: missing in NEW")
                continue
            words = set(re.findall(r"[\w.-]+", others[option]))
            missing = [choice for choice in _choices(said) if choice not in words | GONE]
            found._count(not missing)
            if missing:
                found.differences.append(f"{name} {option}: {', '.join(missing)} missing in NEW")
        found.additions += [f"{name} {option}" for option in others if option not in options]


def _choices(said: str) -> list[str]:
    """Return the values in braces in the first line of what is said of an option."""
    listed = re.search(r"\{([^}]+)\}", said.splitlines()[0])
    return [] if listed is None else listed[1].split(",")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def table(found: dict[str, Comparison]) -> str:
    lines = [
        "| part | probes | values | equal to the bit | largest relative difference | bound "
        "| different | only in NEW |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part, one in found.items():
        lines.append(
            f"| {part} | {one.probes} | {one.values} | {one.equal} | {one.largest:.1e} "
            f"| {one.bound:g} | {len(one.differences)} | {len(one.additions)} |"
        )
    return "\n".join(lines)


def _print_lines(title: str, lines: list[str], most: int) -> None:
    if lines:
        print(f"\n{title}")
        for line in lines[:most]:
            print(f"  {line}")
        if len(lines) > most:
            print(f"  and {len(lines) - most} more")


def _commit(checkout: Path) -> str:
    return f"{checkout}: {_git(checkout, 'log', '-1', '--format=%h %s') or 'no commit'}"


def _git(checkout: Path, *words: str) -> str:
    asked = ["git", "-C", str(checkout), *words]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def write_world(root: Path) -> None:
    """Write the small files that both versions read: videos, images, label maps, tracklets."""
    import av
    from PIL import Image

    def noise(seed: Sequence[int], height: int, width: int) -> np.ndarray:
        """Make coarse noise, which survives compression."""
        random = np.random.default_rng(seed)
        small = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        return small.repeat(8, 0).repeat(8, 1)

    def write_image(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def write_video(path: Path, label: int, number: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            still = noise([label, number], 48, 64)
            for frame in range(12):
                pixels = np.roll(still, (frame * label, frame), (0, 1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode())

    parts = {"train": 4, "test": 2}
    for part, count in parts.items():
        for label, name in enumerate("abc"):
            for number in range(count):
                seed = number + 10 * (part == "test")
                write_video(root / "videos" / part / name / f"{number}.avi", label, seed)
                path = root / "images" / part / name / f"{number}.jpg"
                write_image(path, noise([label, seed], 40, 48))
    places = [("train", "aachen"), ("train", "bochum"), ("train", "bochum"), ("val", "lindau")]
    for number, (part, city) in enumerate(places):
        name = f"{city}_{number:06}_000019"
        folder = root / "cityscapes"
        image = folder / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png"
        write_image(image, noise([number], 32, 64))
        labels = noise([number, 1], 32, 64)[..., 0] % 34
        write_image(folder / "gtFine" / part / city / f"{name}_gtFine_labelIds.png", labels)
    trained = [
        (f"train/{p:04}/c{c}/t{t}", p, c) for p in (1, 2, 3, 4) for c in (0, 1) for t in (0, 1)
    ]
    asked = [(f"query/{p}/c0/t0", p, 0) for p in (101, 102, 103)]
    searched = [(f"gallery/{p}/c1/t0", p, 1) for p in (101, 102, 103)]
    junk = [("gallery/0000/c1/t0", 900, 1), ("gallery/-1/c0/t0", 901, 0)]
    for place, person, camera in (*trained, *asked, *searched, *junk):
        for frame in range(3):
            pixels = noise([person], 32, 16) * (1 - 0.15 * camera)
            pixels = pixels + np.random.default_rng([person, camera, frame]).normal(
                0, 12, pixels.shape
            )
            path = root / "people" / place / f"{frame:04}.png"
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
    (root / "stopped").mkdir()
    (root / "broken.mp4").write_bytes(b"no video" * 64)
    write_video(root / "damaged" / "a" / "0.avi", 0, 0)
    (root / "damaged" / "a" / "1.avi").write_bytes(b"no video" * 64)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="folder of the checkout that is right")
    parser.add_argument("new", type=Path, help="folder of the checkout that is compared with it")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help="these parts alone"
    )
    parser.add_argument("--lines", type=int, default=40, help="most lines a part (default: 40)")
    parser.add_argument(
        "--match", default="", help="only probes whose name has this regular expression (no cache)"
    )
    parser.add_argument("--cache", type=Path, help="folder for OLD's values, to be asked once only")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
