"""``video-snl check``: is every file of a dataset there, intact and long enough?"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from video_snl.config.video import DataConfig
from video_snl.data.decoding.auto import resolve_reader
from video_snl.data.decoding.opening import CutOffError
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.video.clip_sampling import clip_span
from video_snl.data.video.file_lists import FileLists, Layout, layout_of, list_files
from video_snl.data.workers.cluster import Cluster, map_files
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.progress import counted
from video_snl.utils.text import printable

__all__ = ["Finding", "check", "inspect"]

Verdict = Literal[
    "sound",
    "missing",
    "unreadable",
    "truncated",
    "lying",
    "short",
    "shared",
    "repeated",
    "unnamed",
]
EXPLAINED: dict[Verdict, str] = {
    "missing": "named, and not there",
    "unreadable": "no video, damaged, or not decoded in time",
    "truncated": "cut off: fewer bytes or frames than the header promises",
    "lying": "another number of frames than the header says",
    "short": "fewer frames than a clip spans",
    "shared": "the same file in train and in test",
    "repeated": "the same file twice in one part",
    "unnamed": "there, and in no list",
}
SHOWN = 20  # files of each verdict in the table


@dataclass(frozen=True)
class Finding:
    """Findings on a file: the frames it holds and those its header says (0: nothing).

    ``undecodable`` are the packets at its start that refer to what was before it; it is sound all
    the same.
    """

    path: str
    verdict: Verdict
    detail: str = ""
    frames: int = 0
    declared: int = 0
    undecodable: int = 0


def check(
    root: Path,
    *,
    dataset: Layout | None,
    num_workers: int,
    deadline: float,
    clip_frames: int,
    frame_stride: int,
    as_json: bool,
    max_pixels: int = MAX_PIXELS,
    cluster: Cluster | None = None,
) -> int:
    """Decode every file of a dataset and print what is wrong; 1 when anything is, else 0.

    Raises:
        UserError: There is no such dataset, or the cluster cannot be used.
    """
    layout = dataset or layout_of(root)
    lists = list_files(root, layout)
    span = clip_span(clip_frames, frame_stride)
    findings = _inspect_all(lists.present, span, num_workers, deadline, max_pixels, cluster)
    problems = _problems(lists, findings)
    reader = _reader(findings, deadline, max_pixels)
    total = len(lists.present) + len(lists.missing)
    if lists.ignored:
        print(f"video-snl check: {root}: {lists.ignored}", file=sys.stderr)
    if as_json:
        report = _report(root, layout, total, findings, problems, reader)
        print(to_json(report | {"ignored": lists.ignored}, indent=2))
    else:
        _print(root, total, problems, reader)
        _print_heads(root, _heads(findings))
    return 1 if problems else 0


def inspect(path: str, span: int, max_pixels: int = MAX_PIXELS) -> Finding:
    """Decode a file from end to end, and compare what it holds with what it says.

    Args:
        span: Frames a clip spans.
        max_pixels: Most pixels of a frame.
    """
    try:
        facts = find_stream_info(path, max_pixels)
        with closing(PyAVReader(path, max_pixels)) as reader:
            held, damaged = reader.decode_all()
    except CutOffError as error:
        return Finding(path, "truncated", _without(path, error))
    except UserError as error:
        return Finding(path, "unreadable", _without(path, error))
    said = facts.declared or facts.length
    found = partial(
        Finding, path, frames=held, declared=facts.declared, undecodable=facts.undecodable
    )
    if damaged:
        return found("unreadable", f"{damaged} of {counts(held, 'frame')} damaged")
    if held != said:
        source = "its header says" if facts.declared else "it has packets for"
        return found("lying", f"{source} {counts(said, 'frame')}, it holds {held}")
    if held < span:
        return found("short", f"{counts(held, 'frame')}, a clip spans {span}")
    return found("sound")


def _inspect_all(
    paths: list[str],
    span: int,
    num_workers: int,
    deadline: float,
    max_pixels: int,
    cluster: Cluster | None,
) -> dict[str, Finding]:
    function = partial(inspect, span=span, max_pixels=max_pixels)
    findings = {}
    results = map_files(
        function, paths, num_workers=num_workers, deadline=deadline, cluster=cluster
    )
    with closing(results):  # type: ignore[type-var]
        for result in counted(results, len(paths), "checked"):
            findings[result.item] = result.value or Finding(
                result.item, "unreadable", _failure(result.kind, result.failure, deadline)
            )
    return dict(sorted(findings.items()))


def _failure(kind: str, failure: str | None, deadline: float) -> str:
    if kind == "timeout":
        return f"not decoded within {deadline:g} s (--deadline)"
    if kind == "died":
        return f"the decoder crashed ({failure})"
    return str(failure)


def _problems(lists: FileLists, findings: dict[str, Finding]) -> list[Finding]:
    """List problems by verdict, then path; a file in no list may have another one in it."""
    found = [Finding(path, "missing") for path in lists.missing]
    found += [finding for finding in findings.values() if finding.verdict != "sound"]
    repeats = lists.repeats
    found += [
        Finding(same.path, "shared", f"in {same.part}, and {same.first} in {same.first_part}")
        for same in repeats.shared
    ]
    found += [
        Finding(same.path, "repeated", f"the same file as {same.first}{classes}")
        for entries, classes in (
            (repeats.repeated, ""),
            (repeats.contradicting, ", of another class"),
        )
        for same in entries
    ]
    found += [Finding(path, "unnamed") for path in lists.unnamed]
    found = list(dict.fromkeys(found))  # the lists of several splits repeat themselves
    order = list(EXPLAINED)
    return sorted(found, key=lambda finding: (order.index(finding.verdict), finding.path))


def _reader(findings: dict[str, Finding], deadline: float, max_pixels: int) -> str:
    """Return what ``reader: auto`` takes here."""
    sound = [path for path, finding in findings.items() if finding.verdict == "sound"]
    config = DataConfig(reader="auto", deadline=deadline, max_pixels=max_pixels)
    config, _ = resolve_reader(config, sound)
    return "" if config.reader == "auto" else f"reader auto: {config.reader}"


def _without(path: str, error: UserError) -> str:
    return str(error).removeprefix(path).strip()


def _below(path: str, root: Path) -> str:
    folder = f"{root if root.is_dir() else root.parent}/"
    return path.removeprefix(folder)


def _report(
    root: Path,
    layout: str,
    total: int,
    findings: dict[str, Finding],
    problems: list[Finding],
    reader: str,
) -> dict[str, Any]:
    return {
        "root": str(root),
        "dataset": layout,
        "files": total,
        "sound": sum(finding.verdict == "sound" for finding in findings.values()),
        "counts": dict(Counter(finding.verdict for finding in problems)),
        "reader": reader,
        "undecodable_heads": _heads(findings),
        "problems": [asdict(finding) for finding in problems],
    }


def _heads(findings: dict[str, Finding]) -> dict[str, int]:
    """Return the number of packets at the start of each file that cannot be decoded."""
    return {path: finding.undecodable for path, finding in findings.items() if finding.undecodable}


def _print_heads(root: Path, heads: dict[str, int]) -> None:
    for path, packets in list(heads.items())[:SHOWN]:
        print(
            f"  {_below(path, root)} starts in the middle: {packets} packets before its first frame"
        )
    if len(heads) > SHOWN:
        print(f"  and {len(heads) - SHOWN:,} more: --json lists all")


def _print(root: Path, total: int, problems: list[Finding], reader: str) -> None:
    print(reader)
    for verdict, meaning in EXPLAINED.items():
        found = [finding for finding in problems if finding.verdict == verdict]
        if not found:
            continue
        print(f"\n{verdict}: {len(found):,} ({meaning})")
        for finding in found[:SHOWN]:
            name = printable(_below(finding.path, root))
            print(f"  {name}: {finding.detail}" if finding.detail else f"  {name}")
        if len(found) > SHOWN:
            print(f"  and {len(found) - SHOWN:,} more: --json lists all")
    wrong = len({finding.path for finding in problems})
    state = f"{wrong:,} with problems" if wrong else "all intact"
    print(f"\n{root}: {counts(total, 'file')}, {state}")
