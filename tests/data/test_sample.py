"""The sample dataset: layout, determinism, the label in the scene, and safe generation."""

from __future__ import annotations

import colorsys
import fcntl
import threading
import time
from pathlib import Path

import decord
import numpy as np
import pytest

from video_snl.data.synthetic import sample
from video_snl.data.synthetic.sample import (
    CLASSES,
    SampleSettings,
    SceneSettings,
    draw_scene,
    ensure_sample,
    generate,
    sample_folder,
)
from video_snl.data.video.ucf101 import load_ucf101
from video_snl.errors import UserError

TINY = SampleSettings(groups=4, clips_per_group=1, scene=SceneSettings(frames=5))
STILL = SceneSettings(hue_jitter=0.0, position_jitter=0.0, speed=0.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "set"
    generate(root, TINY)
    return root


@pytest.fixture
def tiny_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "SETTINGS", TINY)


def scene(matching: int, settings: SceneSettings, seed: int = 0) -> np.ndarray:
    return draw_scene(
        matching, settings, np.random.default_rng([1, seed]), np.random.default_rng(seed % 25)
    )


def corners_seen(frame: np.ndarray) -> dict[tuple[int, int], float]:
    """The corners where a saturated shape is, with its mean hue (circle of length 1)."""
    half, found = frame.shape[0] // 2, {}
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = (slice(half * c, half * c + half) for c in corner)
        pixels = frame[y, x].reshape(-1, 3).astype(float)
        vivid = np.ptp(pixels, axis=1) > 0.72 * pixels.max(1)
        bright = pixels[vivid & (pixels.max(1) > 150)]
        if len(bright) > 40:
            found[corner] = colorsys.rgb_to_hsv(*np.median(bright, 0) / 255)[0]
    return found


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# The scene


@pytest.mark.parametrize("matching", [1, 2, 3, 4])
def test_label_counts_the_shapes_of_one_colour(matching: int) -> None:
    for seed in range(20):
        hues: dict[tuple[int, int], float] = {}
        for frame in scene(matching, STILL, seed)[:4]:
            hues.update(corners_seen(frame))
        colours = [round(hue * STILL.colours) % STILL.colours for hue in hues.values()]
        repeats = sorted(colours.count(colour) for colour in set(colours))
        assert repeats == sorted([matching] + [1] * (4 - matching))


def test_a_frame_shows_two_shapes_and_four_frames_show_all() -> None:
    settings = SceneSettings()
    for seed in range(20):
        seen = [set(corners_seen(frame)) for frame in scene(2, settings, seed)]
        assert all(len(corners) == 2 for corners in seen)
        for start in range(len(seen) - 3):
            assert len(set().union(*seen[start : start + 4])) == 4


def test_each_corner_alone_says_nothing_about_the_label() -> None:
    settings = SceneSettings(frames=2)
    means = []
    for matching in (1, 2, 3, 4):
        videos = np.stack([scene(matching, settings, seed) for seed in range(150)])
        quarters = videos.reshape(150, 2, 2, 40, 2, 40, 3)
        means.append(quarters.mean((0, 1, 3, 5)))
    assert np.ptp(np.stack(means), axis=0).max() < 3  # one colour more often would shift it by 8


def test_fewer_colours_than_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="colours=3"):
        SceneSettings(colours=3)


# The files


def test_layout_is_that_of_ucf101(tiny: Path) -> None:
    lists = tiny / "ucfTrainTestlist"
    index = lists.joinpath("classInd.txt").read_text().splitlines()
    assert index == [f"{number} {name}" for number, name in enumerate(CLASSES, 1)]
    assert list(CLASSES) == sorted(CLASSES)
    assert "AllMatch/v_AllMatch_g02_c01.avi 1" in (lists / "trainlist01.txt").read_text()
    assert (lists / "testlist01.txt").read_text().splitlines() == [
        f"{name}/v_{name}_g01_c01.avi" for name in CLASSES
    ]


@pytest.mark.parametrize("split", [1, 2, 3])
def test_lists_divide_the_videos_by_group(tiny: Path, split: int) -> None:
    videos = load_ucf101(tiny, split)
    groups = [
        {Path(video.path).stem.split("_")[2] for video in part}
        for part in (videos.train, videos.test)
    ]
    assert groups[0].isdisjoint(groups[1]) and groups[1] == {f"g{split:02d}"}
    assert len(videos.train) + len(videos.test) == len(list(tiny.rglob("*.avi"))) == 16
    assert tuple(videos.class_names) == CLASSES
    for video in videos.train + videos.test:
        assert Path(video.path).parent.name == CLASSES[video.label]


def test_default_set_has_1600_and_400_videos() -> None:
    settings = SampleSettings()
    tests = [set(settings.test_groups(split)) for split in (1, 2, 3)]
    assert tests[0] == {1, 2, 3, 4, 5} and not (tests[0] & tests[1] | tests[1] & tests[2])
    assert len(CLASSES) * settings.groups * settings.clips_per_group == 2000


def test_videos_decode_to_what_was_drawn(tiny: Path) -> None:
    path = tiny / "UCF-101" / "TwoMatch" / "v_TwoMatch_g03_c01.avi"
    reader = decord.VideoReader(str(path))
    decoded = reader.get_batch(range(len(reader))).asnumpy()
    label = CLASSES.index("TwoMatch")
    drawn = draw_scene(
        2, TINY.scene, np.random.default_rng([0, 1, label, 3, 1]), np.random.default_rng([0, 0, 3])
    )
    assert decoded.shape == drawn.shape and reader.get_avg_fps() == 25
    # The video keeps colours at half the resolution; brightness is kept well.
    assert np.abs(decoded.mean(-1) - drawn.mean(-1)).mean() < 3
    for frame in decoded:
        assert len(corners_seen(frame)) == 2


def test_same_settings_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", TINY)
    assert files_of(tmp_path / "again") == files_of(tiny)
    generate(tmp_path / "other", SampleSettings(4, 1, seed=1, scene=TINY.scene))
    first = "UCF-101/AllMatch/v_AllMatch_g01_c01.avi"
    assert (tmp_path / "other" / first).read_bytes() != (tiny / first).read_bytes()


def test_progress_is_ten_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path / "set", SampleSettings(5, 1, scene=TINY.scene))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and "20 of 20 (100 %)" in lines[9]


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=3"):
        SampleSettings(groups=3)


# The cache


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("VIDEO_SNL_CACHE", raising=False)
    assert sample_folder() == Path("/h/.cache/video-snl/sample-v1")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert sample_folder() == Path("/x/video-snl/sample-v1")
    monkeypatch.setenv("VIDEO_SNL_CACHE", "/v")
    assert sample_folder() == Path("/v/video-snl/sample-v1")


@pytest.mark.usefixtures("tiny_default")
def test_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_SNL_CACHE", str(tmp_path))
    root = ensure_sample()
    assert root == sample_folder() and (root / "ucfTrainTestlist").is_dir()
    monkeypatch.setattr(sample, "_write_files", lambda *_: pytest.fail("generated again"))
    assert ensure_sample() == root
    assert [path.name for path in root.parent.iterdir() if path.is_dir()] == ["sample-v1"]


@pytest.mark.usefixtures("tiny_default")
def test_another_version_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ensure_sample(tmp_path / "set")
    (root / "stale").touch()
    (tmp_path / "link").symlink_to("set")
    monkeypatch.setattr(sample, "FORMAT", sample.FORMAT + 1)
    ensure_sample(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert not (root / "stale").exists() and not (root / "replaced").exists()
    assert len(list(root.rglob("*.avi"))) == 16


@pytest.mark.usefixtures("tiny_default")
def test_a_broken_generation_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = tmp_path / ".set.0123abcd.partial"
    abandoned.mkdir()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sample, "_write_lists", full_disk)
        with pytest.raises(UserError, match="No space left.*VIDEO_SNL_CACHE"):
            ensure_sample(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
    assert len(list(ensure_sample(tmp_path / "set").rglob("*.avi"))) == 16


@pytest.mark.usefixtures("tiny_default")
def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        ensure_sample(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


@pytest.mark.usefixtures("tiny_default")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="VIDEO_SNL_CACHE"):
        ensure_sample(tmp_path / "file" / "set")


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("tiny_default")
def test_a_second_process_waits_for_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(tmp_path / ".set.lock", "w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=ensure_sample, args=(tmp_path / "set",))
        second.start()
        said = ""
        while "waiting" not in said:
            said += capsys.readouterr().err
            time.sleep(0.01)
        # The first finishes while the second waits: the second takes what is there.
        generate(tmp_path / "set", TINY)
        stamp = (tmp_path / "set" / "sample.json").stat().st_mtime_ns
    second.join()
    assert (tmp_path / "set" / "sample.json").stat().st_mtime_ns == stamp
