"""``video-snl compare``: evaluated runs side by side, on made-up predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import run_here
from tests.videos import write_video
from video_snl.commands.compare import compare
from video_snl.commands.comparison import compare_runs, read_run
from video_snl.commands.reports import write_reports
from video_snl.data.video.records import Video, VideoSet

NAMES = ["Bow", "Clap", "<b>Dive"]
COUNT = 24
PATHS = [f"/data/{NAMES[i % 3][-4:]}/v_A_g{i // 4:02d}_c{i % 4:02d}.avi" for i in range(COUNT)]


def write_run(
    folder: Path,
    wrong: set[int],
    *,
    seed: int = 0,
    block: str = "none",
    paths: list[str] = PATHS,
    unread: set[int] = frozenset(),
    order: list[int] | None = None,
    skipped: bool = False,
    **metrics: Any,
) -> Path:
    """Write what train and evaluate leave of a run that has these videos wrong."""
    order = order or list(range(len(paths)))
    labels = np.array([i % 3 for i in range(len(paths))])
    scores = np.full((len(paths), 3), 0.2, dtype=np.float32)
    for i, label in enumerate(labels):
        scores[i, (label + (i in wrong)) % 3] = 0.6
        if i in unread:
            scores[i] = np.nan
    test = [Video(paths[i], int(labels[i])) for i in order]
    read = np.array([i not in unread for i in order])
    found = {"label": labels[order], "read": read, "clip": scores[order], "video": scores[order]}
    known = {"unreadable_are": "skipped" if skipped else "wrong", "clip_top1": 0, "video_top1": 0}
    about = {**known, "views": "1 clip", "checkpoint": f"{folder}/checkpoints/best.ckpt"}
    videos = VideoSet(test, test, NAMES)
    write_reports(folder / "evaluation", found, videos, about | metrics, "1 clip")
    sections = {"model": {"block": block}, "trainer": {"seed": seed, "name": folder.name}}
    (folder / "run.json").write_text(json.dumps({"program": "video-snl", "config": sections}))
    return folder


def compared(*folders: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    page = folders[0].parent / "page.html"
    assert compare([str(f) for f in folders], page=str(page), strips=0, as_json=True) == 0
    return json.loads(capsys.readouterr().out)


def test_differences_are_those_of_plain_loops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "none", {0, 1, 2, 3, 9})
    second = write_run(tmp_path / "snl", {2, 10}, block="snl", order=[*range(COUNT)][::-1])
    found = compared(first, second, capsys=capsys)
    assert (found["videos"], found["resampled"], found["units"]) == (COUNT, "recordings", 6)
    base, row = found["rows"]
    for level in ("clip", "video"):
        figures = row["levels"][level]
        assert base["levels"][level]["top1"] == pytest.approx(19 / 24)
        assert base["levels"][level]["difference"] is None
        assert figures["top1"] == pytest.approx(22 / 24) and figures["std"] is None
        assert figures["difference"]["value"] == pytest.approx(3 / 24)
        low, high = figures["difference"]["interval"]
        assert low < 3 / 24 < high
        [test] = figures["difference"]["mcnemar"]
        # lost is video 10; gained are 0, 1, 3 and 9: (1 + 5) / 2^5 on each side
        assert test == {"lost": 1, "gained": 4, "p": pytest.approx(2 * 6 / 32)}
    assert row["lost"] == [PATHS[10]]
    assert row["gained"] == [PATHS[i] for i in (0, 1, 3, 9)]
    assert found["settings"] == {"model.block": ["none", "snl"]}
    noted = {"recordings": [f"day {i % 2}" for i in range(COUNT)]}
    (first / "evaluation" / "intervals.json").write_text(json.dumps(noted))
    assert compared(first, second, capsys=capsys)["units"] == 2


def test_runs_that_differ_by_the_seed_are_one_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(tmp_path / f"{block}-s{seed}-20260101-00000{seed}", wrong, seed=seed, block=block)
        for block, seed, wrong in (
            ("none", 0, {0, 1, 2}),
            ("snl", 1, {4}),
            ("none", 1, {0, 5}),
            ("snl", 0, {0}),
        )
    ]
    base, row = compared(*runs, capsys=capsys)["rows"]
    assert (base["name"], base["seeds"], row["name"], row["seeds"]) == (
        "none",
        [0, 1],
        "snl",
        [0, 1],
    )
    figures = base["levels"]["video"]
    assert figures["values"] == pytest.approx([21 / 24, 22 / 24]) and figures["wilson"] is None
    assert figures["std"] == pytest.approx(np.std([21 / 24, 22 / 24], ddof=1))
    difference = row["levels"]["video"]["difference"]
    assert difference["value"] == pytest.approx(1.5 / 24)
    assert [(test["lost"], test["gained"]) for test in difference["mcnemar"]] == [(0, 2), (1, 2)]
    assert row["gained"][0] in (PATHS[0], PATHS[1], PATHS[2], PATHS[5])
    # The same seed twice is not a sample over seeds.
    again = write_run(tmp_path / "again", {0}, seed=0)
    assert len(compared(runs[0], again, capsys=capsys)["rows"]) == 2


def test_page_and_table(tmp_path: Path) -> None:
    videos = [str(write_video(tmp_path / f"{i}.avi", frames=5)) for i in range(3)]
    paths = [*videos, str(tmp_path / "gone.avi")]
    first = write_run(tmp_path / "a", {0}, paths=paths)
    second = write_run(tmp_path / "b", {1, 3}, paths=paths, block="<i>snl")
    page = tmp_path / "out" / "page.html"
    done = run_here("compare", str(first), str(second), "--page", str(page))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("4 test videos") and lines[-1] == f"page: {page}"
    assert "  model.block: none | <i>snl" in lines
    assert sum(line.startswith("b ") and "-25.00" in line for line in lines) == 2
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 2 and "no image: " in text
    assert "<b>Dive" not in text and "<i>snl" not in text and "http" not in text


def test_what_one_run_left_out_is_left_out_of_all(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", {0}, unread={5})
    second = write_run(tmp_path / "b", {1}, block="snl", unread={7})
    both = compare_runs([read_run(str(first)), read_run(str(second))])
    assert both.rows[0].figures["video"].mean == pytest.approx(22 / 24)  # as wrong
    third = write_run(tmp_path / "c", {1}, block="snl", unread={7}, skipped=True)
    skipping = compare_runs([read_run(str(first)), read_run(str(third))])
    assert skipping.left_out == [PATHS[5], PATHS[7]]
    assert [row.figures["video"].mean for row in skipping.rows] == pytest.approx([21 / 22] * 2)


def test_copies_of_a_dataset_are_one_list_and_others_are_told(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", {0})
    moved = write_run(tmp_path / "b", {1}, paths=[f"/elsewhere{path}" for path in PATHS])
    assert len(compare_runs([read_run(str(first)), read_run(str(moved))]).counted) == COUNT
    shorter = write_run(tmp_path / "c", {1}, paths=PATHS[:20])
    empty, plain = tmp_path / "d", tmp_path / "e"
    for folder in (empty, plain):
        folder.mkdir()
    (empty / "run.json").write_text(json.dumps({"program": "video-snl", "config": {}}))
    page = ["--page", str(tmp_path / "page.html")]
    for words, said in (
        ([shorter], "20 videos against 24, 20 of them in both"),
        ([empty], f"{empty} is not evaluated yet: video-snl evaluate --checkpoint {empty}"),
        ([plain], "is not the folder of a run"),
        ([tmp_path / "none"], "does not exist"),
        ([], "give two runs or more"),
    ):
        done = run_here("compare", str(first), *map(str, words), *page)
        assert done.returncode == 2 and done.stdout == ""
        [line] = done.stderr.strip().splitlines()
        assert said in line
    assert not (tmp_path / "page.html").exists()
