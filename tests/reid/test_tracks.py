"""``reid tracklets`` and ``reid identify``: tracks of other programs, crops, identities."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reid.data.tracklet_folders import find_tracklets
from reid.tracks.boxes import Box, Selection, Track, check_boxes, read_boxes
from reid.tracks.detecting import TRACKERS, associate, predict_and_associate
from tests.reid.little import run
from tests.reid.people import COLOURS, FRAMES, SIZE, place, track_lines, write_people
from tests.videos import frames_of
from video_snl.errors import UserError
from video_snl.utils import extras

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("videos") / "hall.mp4")


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    path = tmp_path / "tracks.txt"
    path.write_text("\n".join(track_lines()))
    return path


def _tracklets(video: Path, output: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run("tracklets", str(video), "-o", str(output), *map(str, words))


def _refused(done: subprocess.CompletedProcess[str], output: Path, *said: str) -> None:
    """One line, exit code 2, and nothing is there."""
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert (done.returncode, len(errors)) == (2, 1), done.stderr
    assert all(word in errors[0] for word in said), errors[0]
    assert not output.exists()
    assert not list(output.parent.glob(".*.partial*"))


def test_crops_are_the_pixels_of_the_boxes(video: Path, tracks: Path, tmp_path: Path) -> None:
    output = tmp_path / "people"
    start = "2026-11-30T07:00:00Z"
    done = _tracklets(video, output, "--tracks", tracks, "--start", start)
    assert done.returncode == 0, done.stderr
    found = find_tracklets([str(output)], "folder")
    assert list(found) == [f"{output}/hall-{n:04}/hall/000006-000030" for n in (1, 2)]
    assert [(t.person, t.camera) for t in found.values()] == [
        ("hall-0001", "hall"),
        ("hall-0002", "hall"),
    ]
    frames = frames_of(video)
    for person, tracklet in zip(COLOURS, found.values(), strict=True):
        names = [Path(name).name for name in tracklet.frames]
        assert names == [f"{number:06}.jpg" for number in range(6, FRAMES + 1)]
        for number, name in enumerate(tracklet.frames, start=5):
            left, top, width, height = place(person, number) or (0, 0, 0, 0)
            expected = frames[number, top : top + height, left : left + width].astype(int)
            crop = np.asarray(Image.open(name)).astype(int)
            assert crop.shape == expected.shape
            assert abs(crop - expected).mean() < 4
    with (output / "tracklets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(found)
    assert (rows[0]["start"], rows[0]["end"], rows[0]["frames"]) == ("0.500", "3.000", "25")
    assert float(rows[0]["time"]) == pytest.approx(1796022000.5)
    assert len(read_boxes(str(output / "tracks.txt"))) == 50
    again = tmp_path / "again"  # what it writes is what it reads
    done = _tracklets(video, again, "--tracks", output / "tracks.txt")
    assert (again / "tracks.txt").read_bytes() == (output / "tracks.txt").read_bytes()


@pytest.mark.parametrize(
    "line, said",
    [
        ("7,1,10,20", "4 fields"),
        ("7,1,10,20,30,40,1,-1,-1,-1,5", "11 fields"),
        ("7,1,ten,20,30,40,1", "left is 'ten'"),
        ("7,1,10,nan,30,40,1", "top is 'nan'"),
        ("7,1,10,20,inf,40,1", "width is 'inf'"),
        ("7,1,1_0,20,30,40,1", "left is '1_0'"),
        ("7,1,10,20,30,40,", "conf is ''"),
        ("7,9,1e308,20,1e308,40,1", "outside the image"),
        ("7.5,1,10,20,30,40,1", "frame is 7.5"),
        ("0,1,10,20,30,40,1", "frame is 0"),
        ("1e300,1,10,20,30,40,1", "frame is 1e+300"),
        ("7,-1,10,20,30,40,1", "detections without tracks"),
        ("7,-2,10,20,30,40,1", "id is -2"),
        ("7,1,10,20,0,40,1", "width is 0"),
        ("7,1,10,20,30,-4,1", "height is -4"),
        ("6,1,10,20,30,40,1", "stands in line 1, too"),
        ("31,1,10,20,30,40,1", "30 frames"),
        ("7,9,200,20,30,40,1", "160 x 120"),
        ("7,9,-80,20,30,40,1", "outside the image"),
        ("7;1;10;20;30;40", "1 field"),
    ],
)
def test_a_bad_line_is_named(
    video: Path, tracks: Path, tmp_path: Path, line: str, said: str
) -> None:
    lines = track_lines()
    tracks.write_text("\n".join([lines[0], "", line, *lines[1:]]))
    output = tmp_path / "people"
    _refused(_tracklets(video, output, "--tracks", tracks), output, f"{tracks}, line 3", said)


def test_files_without_tracks_are_refused(video: Path, tmp_path: Path) -> None:
    output, tracks = tmp_path / "people", tmp_path / "tracks.txt"
    _refused(_tracklets(video, output, "--tracks", tracks), output, "cannot be read")
    tracks.write_text("\n\n")
    _refused(_tracklets(video, output, "--tracks", tracks), output, "has no boxes")
    tracks.write_text("1,1,5,5,20,40,0\n")
    _refused(_tracklets(video, output, "--tracks", tracks), output, "1 line have confidence 0")
    tracks.write_bytes(b"\xff\xfe\x00garbage")
    _refused(_tracklets(video, output, "--tracks", tracks), output, str(tracks))
    tracks.write_text("1,1,5,5,20,40,1\n")
    done = _tracklets(video, output, "--tracks", tracks)
    _refused(done, output, "0 tracklets", "1 tracklet of fewer than 5 boxes")
    _refused(_tracklets(video, output), output, "--detector")
    both = _tracklets(video, output, "--tracks", tracks, "--detector", "motion")
    _refused(both, output, "once")
    twice = _tracklets(video, output, "--tracks", tracks, "--tracker", "norfair")
    _refused(twice, output, "--tracker norfair is for the boxes of a --detector")
    _refused(_tracklets(tmp_path / "none.mp4", output, "--tracks", tracks), output, "none.mp4")
    tracks.write_text("\n".join(track_lines()))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:2000])
    _refused(_tracklets(broken, output, "--tracks", tracks), output, "broken.mp4")
    for camera in ("a/b", "a" * 201):
        words = ("--tracks", tracks, "--camera", camera)
        _refused(_tracklets(video, output, *words), output, "--camera 'a", "such as hall")


def test_boxes_of_another_video_are_left_out_where_wanted(
    video: Path, tracks: Path, tmp_path: Path
) -> None:
    tracks.write_text("\n".join([*track_lines(), "99,1,1,1,9,40,1", "7,7,500,1,9,40,1"]))
    done = _tracklets(video, tmp_path / "people", "--tracks", tracks, "--outside", "skip")
    assert done.returncode == 0, done.stderr
    assert "1 box outside the image, 1 box after the last frame" in done.stdout
    assert "confidence" not in done.stdout
    assert len(find_tracklets([str(tmp_path / "people")], "folder")) == 2


def test_boxes_of_confidence_0_are_left_out_and_counted(
    video: Path, tracks: Path, tmp_path: Path
) -> None:
    ignored = [f"{n},7,500,1,9,40,0" for n in range(1, 1235)]  # also of places that are not there
    tracks.write_text("\n".join([*track_lines(), *ignored]))
    done = _tracklets(video, tmp_path / "people", "--tracks", tracks)
    assert done.returncode == 0, done.stderr
    assert "2 tracklets of 2 tracks; left out: 1234 boxes of confidence 0" in done.stdout
    done = _tracklets(video, tmp_path / "none", "--detector", f"{__name__}.doubtful")
    _refused(done, tmp_path / "none", "left out: 30 boxes of confidence 0")


def test_an_empty_folder_is_replaced_where_it_can_be(
    video: Path, tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, target in (("link", "there"), ("dangling", "new")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "there").mkdir()
    for name, target in (("link", "there"), ("dangling", "new")):
        assert _tracklets(video, tmp_path / name, "--tracks", tracks).returncode == 0
        assert (tmp_path / name).is_symlink() and (tmp_path / target / "tracks.txt").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = _tracklets(video, Path("."), "--tracks", tracks)
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert done.returncode == 2 and len(errors) == 1, done.stderr
    assert "--output . is the current folder" in errors[0] and "cutting out" not in done.stderr
    assert list(Path().iterdir()) == []
    monkeypatch.setattr(os.path, "ismount", lambda place: str(place) == str(tmp_path / "here"))
    done = _tracklets(video, tmp_path / "here", "--tracks", tracks)
    assert done.returncode == 2 and "here is a mount point" in done.stderr


def test_a_folder_with_files_is_not_touched(video: Path, tracks: Path, tmp_path: Path) -> None:
    output = tmp_path / "people"
    output.mkdir()
    assert _tracklets(video, output, "--tracks", tracks).returncode == 0  # an empty one is taken
    before = sorted(output.rglob("*"))
    done = _tracklets(video, output, "--tracks", tracks, "--camera", "other")
    assert (done.returncode, "not empty" in done.stderr) == (2, True)
    assert sorted(output.rglob("*")) == before


def _track(number: int, *frames: int, height: float = 40) -> Track:
    return Track(number, tuple(Box(f, number, 10.0, 10.0, 20.0, height) for f in frames))


def test_tracks_are_cut_at_gaps_and_short_pieces_left_out() -> None:
    picked = Selection(min_frames=2, max_gap=2).pick([_track(3, 0, 1, 4, 8, 9, 20)])
    assert [[box.frame for box in track.boxes] for track in picked.tracks] == [[0, 1, 4], [8, 9]]
    assert picked.left_out == ["1 tracklet of fewer than 2 boxes"]


def test_low_and_covered_boxes_are_left_out() -> None:
    one, low = _track(1, 0, 1, 2), _track(2, 0, 1, 2, height=31)
    hidden = Track(3, (Box(1, 3, 12.0, 12.0, 10.0, 36.0), Box(2, 3, 100.0, 12.0, 10.0, 36.0)))
    low = Track(2, tuple(box._replace(left=60.0) for box in low.boxes))
    picked = Selection(min_frames=1).pick([one, low, hidden])
    assert {track.number: len(track.boxes) for track in picked.tracks} == {1: 3, 3: 1}
    assert picked.left_out == [
        "3 boxes less than 32 pixels high",
        "1 box covered by more than 70%",
    ]


def test_any_number_of_boxes_in_a_frame_is_compared_in_bounded_memory() -> None:
    crowd = [Track(n, (Box(0, n, 10.0 * n, 0.0, 9.0, 40.0),)) for n in range(3000)]
    crowd.append(Track(3000, (Box(0, 3000, 15000.0, 0.0, 9.0, 36.0),)))  # within the box of 1500
    tracemalloc.start()
    picked = Selection(min_frames=1).pick(crowd)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [track.number for track in picked.tracks] == [n for n in range(3000) if n != 1500]
    assert used < 50e6  # pairs of all: 72 MB for the distances alone


@pytest.mark.parametrize(
    "option", [{"min_frames": 0}, {"max_gap": -1}, {"min_height": 0}, {"max_overlap": 1.5}]
)
def test_options_out_of_range_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(option))}"):
        Selection(**option)  # type: ignore[arg-type]


def test_boxes_are_cut_off_at_the_edges() -> None:
    boxes = [Box(0, 1, -5.5, -3.0, 20.2, 40.0), Box(1, 1, 150.0, 100.0, 30.0, 30.0)]
    found = check_boxes(boxes, "v", 2, SIZE, source="t")
    assert [box[2:6] for box in found.tracks[0].boxes] == [(0, 0, 15, 37), (150, 100, 10, 20)]
    [whole] = check_boxes(
        [Box(0, 1, -1e308, -9, 1.5e308, 1.8e308)], "v", 2, SIZE, source="t"
    ).tracks
    assert whole.boxes[0][2:6] == (0, 0, *SIZE[::-1])


def test_boxes_are_numbered_by_their_overlap() -> None:
    one, two = [0.0, 0, 10, 30, 1], [50.0, 0, 10, 30, 1]
    moved = [2.0, 1, 10, 30, 1]
    frames = [[one, two], [two, moved], [], [one], [], [], [], [one]]
    found = associate((np.array(f, float).reshape(-1, 5) for f in frames), max_gap=2)
    assert [(box.frame, box.track) for box in found] == [
        *((0, 1), (0, 2), (1, 2), (1, 1)),
        (3, 1),  # after a gap of one frame
        (7, 3),  # after one of three
    ]


def test_a_tracker_that_is_not_installed_is_named(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "norfair" else real(name))
    done = _tracklets(video, tmp_path / "a", "--detector", "motion", "--tracker", "norfair")
    _refused(done, tmp_path / "a", "(norfair-enough): pip install 'video-snl[tracks]'")


def _crossing() -> Iterator[np.ndarray]:
    """Two people who walk towards each other and on; both are hidden while they meet."""
    for frame in range(60):
        one, two = [4.0 * frame, 20, 30, 80, 1], [240 - 4.0 * frame, 22, 30, 80, 1]
        hidden = 26 <= frame < 34
        yield np.array([[]] if hidden else [one, two], float).reshape(-1, 5)


def test_norfair_follows_people_where_overlap_does_not() -> None:
    pytest.importorskip("norfair")
    tracks = {name: TRACKERS[name](_crossing(), 20) for name in ("overlap", "norfair")}
    for boxes in tracks.values():
        assert len(boxes) == 2 * 52 and {box.frame for box in boxes} == {*range(26), *range(34, 60)}
    found = {}
    for name, boxes in tracks.items():
        starts = {box.track: box.left for box in boxes if box.frame == 0}
        ends = {box.track: box.left for box in boxes if box.frame == 59}
        assert starts == {1: 0, 2: 240}
        found[name] = ends
    assert found["norfair"] == {1: 236, 2: 4}
    assert found["overlap"] == {1: 4, 2: 236}  # swapped
    assert predict_and_associate(iter([np.zeros((0, 5))] * 3), 0) == []


def detector(frame: np.ndarray, number: int) -> list[list[float]]:
    """The people of the video by their colours."""
    assert frame.shape == (*SIZE, 3)
    boxes = []
    for colour in COLOURS.values():
        rows, columns = np.nonzero(abs(frame.astype(int) - colour).sum(-1) < 60)
        if len(rows):
            left, top = columns.min(), rows.min()
            boxes.append([left, top, columns.max() + 1 - left, rows.max() + 1 - top, 0.9])
    return boxes


def failing(frame: np.ndarray, number: int) -> list[list[float]]:
    raise RuntimeError("no detector here")


def shapeless(frame: np.ndarray, number: int) -> list[float]:
    return [1.0, 2.0, 3.0]


def flat(frame: np.ndarray, number: int) -> list[list[float]]:
    return [[1.0, 2.0, 0.0, 3.0]]


def far(frame: np.ndarray, number: int) -> list[list[float]]:
    return [[1.0, 2.0, 3.0, 3.0], [1.0, 2.0, 1e300, 3.0]]


def learning(frame: np.ndarray, number: int) -> torch.Tensor:
    return torch.ones(1, 4, requires_grad=True)


def doubtful(frame: np.ndarray, number: int) -> list[list[float]]:
    return [[10.0, 20.0, 20.0, 44.0, 0.0]]


def outside(frame: np.ndarray, number: int) -> list[list[float]]:
    return [[10.0 if number < 6 else 500.0, 20.0, 20.0, 44.0]]


def leaving(frame: np.ndarray, number: int) -> list[list[float]]:
    raise SystemExit(3)


class Unmade:
    def __init__(self) -> None:
        raise SystemExit("no weights\nand more")


def slow(frame: np.ndarray, number: int) -> list[list[float]]:
    print("begun", flush=True)
    time.sleep(60)
    return []


@pytest.mark.parametrize(
    "name, empty, tracker",
    [
        ("motion", 100, "overlap"),
        (f"{__name__}.detector", 0, "overlap"),
        (f"{__name__}.detector", 0, "norfair"),
    ],
)
def test_detectors_find_both_people(tmp_path: Path, name: str, empty: int, tracker: str) -> None:
    if tracker == "norfair":
        pytest.importorskip("norfair")
    output = tmp_path / "people"
    video = write_people(tmp_path / "hall.mp4", empty)
    done = _tracklets(video, output, "--detector", name, "--tracker", tracker)
    assert done.returncode == 0, done.stderr
    boxes = read_boxes(str(output / "tracks.txt"))
    for person in COLOURS:
        number = min(
            {box.track for box in boxes},
            key=lambda track: abs(
                next(box.top for box in boxes if box.track == track) - (20 if person == 1 else 70)
            ),
        )
        own = [box for box in boxes if box.track == number]
        assert len(own) >= 20
        for box in own:
            expected = place(person, box.frame - empty)
            assert expected is not None
            assert np.abs(np.array(box[2:6]) - expected).max() <= (12 if name == "motion" else 3)


@pytest.mark.parametrize(
    "name, said",
    [
        ("people", "dotted path"),
        ("no_such_package.detect", "no_such_package"),
        (f"{__name__}.nothing", "nothing"),
        (f"{__name__}.failing", "RuntimeError: no detector here"),
        (f"{__name__}.shapeless", "shape (3,)"),
        (f"{__name__}.flat", "above 0"),
        (f"{__name__}.far", "found 1, 2, 1e+300, 3"),
        (f"{__name__}.learning", "Tensor that requires grad"),
        (f"{__name__}.outside", "outside, frame 7: the box 500,20,20,44 lies outside the image"),
        (f"{__name__}.leaving", "fails in frame 1 of"),
        (f"{__name__}.Unmade", "cannot be made: SystemExit: no weights"),
    ],
)
def test_bad_detectors_are_refused(video: Path, tmp_path: Path, name: str, said: str) -> None:
    output = tmp_path / "people"
    _refused(_tracklets(video, output, "--detector", name), output, "--detector", said)


def test_terminated_it_leaves_nothing(video: Path, tmp_path: Path) -> None:
    output = tmp_path / "people"
    words = ["tracklets", str(video), "--detector", f"{__name__}.slow", "-o", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "reid", *words],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (143, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error, code", [(KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space left"), 2)]
)
def test_crops_are_whole_or_absent(
    video: Path,
    tracks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    save, written = Image.Image.save, []

    def fail(self: Image.Image, place: Path, **options: Any) -> None:
        if len(written) == 7:
            raise error
        written.append(place)
        save(self, place, **options)

    monkeypatch.setattr(Image.Image, "save", fail)
    done = _tracklets(video, tmp_path / "people", "--tracks", tracks)
    assert (done.returncode, len(written)) == (code, 7), done.stderr
    assert list(tmp_path.iterdir()) == [tracks]
    monkeypatch.undo()
    assert _tracklets(video, tmp_path / "people", "--tracks", tracks).returncode == 0


@pytest.fixture
def known(video: Path, tracks: Path, trained: Path, tmp_path: Path) -> Path:
    """Features of the first of the two people, under the name ann, by a little network."""
    people = tmp_path / "people"
    assert _tracklets(video, people, "--tracks", tracks).returncode == 0
    shutil.move(people / "hall-0001", people / "ann")
    shutil.rmtree(people / "hall-0002")
    words = ("--checkpoint", str(trained), "--layout", "folder", "--accelerator", "cpu")
    done = run("extract", str(people), "-o", str(tmp_path / "feats.parquet"), *words)
    assert done.returncode == 0, done.stderr
    return tmp_path / "feats.parquet"


def test_people_are_identified(
    video: Path, tracks: Path, trained: Path, known: Path, tmp_path: Path
) -> None:
    assert run("gallery", "create", str(tmp_path / "kept"), str(known)).returncode == 0
    words = ("identify", str(video), "--tracks", str(tracks), "--checkpoint", str(trained))
    words += ("--accelerator", "cpu")
    answers = []
    for gallery in (known, tmp_path / "kept"):
        done = run(*words, "--gallery", str(gallery), "--threshold", "0.000001", "--json")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    for answer in answers:
        one, two = answer["tracks"]
        assert (one["track"], one["start"], one["end"], one["frames"]) == ("hall-0001", 0.5, 3, 25)
        assert (one["identity"], one["in_gallery"]) == ("ann", True)
        assert one["distance"] == pytest.approx(0, abs=1e-6)
        assert (two["identity"], two["in_gallery"]) == (None, False)
        assert two["distance"] > 1e-6
        assert one["entry"].endswith("ann/hall/000006-000030")
    assert [t["distance"] for t in answers[0]["tracks"]] == pytest.approx(
        [t["distance"] for t in answers[1]["tracks"]], abs=1e-6
    )
    done = run(*words, "--gallery", str(known))  # without a threshold the nearest is named
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("hall-")]
    assert [row[4] for row in rows] == ["ann", "ann"]
    assert "not probabilities" in done.stdout


def test_identities_are_drawn(
    video: Path, tracks: Path, trained: Path, known: Path, tmp_path: Path
) -> None:
    words = ("identify", str(video), "--tracks", str(tracks), "--checkpoint", str(trained))
    words += ("--accelerator", "cpu", "--gallery", str(known), "--threshold", "0.000001")
    done = run(*words, "--render", str(tmp_path / "found.mp4"))
    assert done.returncode == 0, done.stderr
    drawn, plain = frames_of(tmp_path / "found.mp4").astype(int), frames_of(video).astype(int)
    assert drawn.shape == plain.shape
    assert abs(drawn[:5] - plain[:5]).mean() < 4  # nobody is there
    change = abs(drawn - plain).mean(-1)
    for number in range(5, FRAMES):
        for person in COLOURS:
            left, top, width, height = place(person, number) or (0, 0, 0, 0)
            label = change[number, top - 12 : top - 2, left : left + width]
            rows, columns = slice(top + 16, top + height - 16), slice(left + 6, left + width - 6)
            assert label.max() > 60  # white letters
            assert change[number, rows, columns].mean() < 10  # the person is to be seen
    before = video.read_bytes()
    for target, said in (
        (video, f"--render {video} is another file of this command"),
        (tmp_path / "found.gif", "found.gif: name a file of .mp4, .m4v, .mov, .mkv"),
    ):
        done = run(*words, "--render", str(target))
        assert done.returncode == 2 and said in done.stderr
    assert video.read_bytes() == before and not (tmp_path / "found.gif").exists()


def test_bad_galleries_are_refused(
    video: Path, tracks: Path, trained: Path, with_block: Path, known: Path, tmp_path: Path
) -> None:
    words = ("identify", str(video), "--tracks", str(tracks))
    here = ("--checkpoint", str(trained), "--accelerator", "cpu")
    kept = str(tmp_path / "kept")
    assert run("gallery", "create", kept, str(known)).returncode == 0
    for more, said in (
        ((*here, "--gallery", str(tmp_path / "none.parquet")), "none.parquet"),
        ((*here, "--gallery", str(tracks)), "tracks.txt"),
        ((*here, "--gallery", str(known), "--threshold", "-1"), "--threshold"),
        (("--checkpoint", str(with_block), "--gallery", str(known)), "one checkpoint"),
        ((*here, "--gallery", kept, "--metric", "euclidean"), "--metric cosine"),
    ):
        done = run(*words, *more)
        errors = [line for line in done.stderr.splitlines() if ": error: " in line]
        assert (done.returncode, len(errors)) == (2, 1), done.stderr
        assert said in errors[0]


def test_an_empty_scene_has_no_people(
    video: Path, tracks: Path, trained: Path, known: Path
) -> None:
    words = ("identify", str(video), "--tracks", str(tracks), "--min_frames", "100")
    done = run(*words, "--gallery", str(known), "--checkpoint", str(trained), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tracks"] == []
    assert "2 tracklets of fewer than 100 boxes" in done.stderr


@pytest.mark.slow
def test_people_of_a_real_video(real_data: Path, tmp_path: Path) -> None:
    video = real_data / "reid" / "one-by-one-person-detection.mp4"
    weights = real_data / "weights" / "osnet_x0_25_msmt17.pth"
    for file in (video, weights):
        if not file.exists():
            pytest.skip(f"no {file}")
    moving = tmp_path / "moving"
    done = _tracklets(video, moving, "--detector", "motion")
    assert done.returncode == 0, done.stderr
    tracks: dict[int, list[Box]] = {}
    for box in read_boxes(str(moving / "tracks.txt")):
        tracks.setdefault(box.track, []).append(box)
    # The second woman stands there from frame 560 to 670, the man after her from 780 to 860.
    [woman] = (t for t in tracks.values() if t[0].frame < 560 and t[-1].frame > 670)
    man = max((t for t in tracks.values() if t[0].frame > 740), key=lambda t: t[-1].frame < 875)
    files = {"known": woman[: len(woman) // 2 : 4], "rest": woman[len(woman) // 2 :: 4] + man[::4]}
    for name, boxes in files.items():
        text = "".join(f"{box.to_line()}\n" for box in boxes)
        (tmp_path / f"{name}.txt").write_text(text)
    network = ("--pretrained", "osnet_x0_25_msmt17", "--weights", str(weights))
    network += ("--accelerator", "cpu")
    done = _tracklets(video, tmp_path / "known", "--tracks", tmp_path / "known.txt")
    assert done.returncode == 0, done.stderr
    [folder] = (path for path in (tmp_path / "known").iterdir() if path.is_dir())
    folder.rename(tmp_path / "known" / "bea")
    features = tmp_path / "feats.parquet"
    words = (str(tmp_path / "known"), "--layout", "folder", "-o", str(features))
    assert run("extract", *words, *network).returncode == 0
    words = (str(video), "--tracks", str(tmp_path / "rest.txt"), "--gallery", str(features))
    done = run("identify", *words, *network, "--threshold", "0.15", "--json")
    assert done.returncode == 0, done.stderr
    found = [row["identity"] for row in json.loads(done.stdout)["tracks"]]
    assert found[0] == "bea" and set(found[1:]) == {None}
