"""Small files of kinds that users meet, and the right answer for each.

The files and the table of answers are in ``cases/`` beside the real data; each row of the table is
one case here. Frames of the videos carry their number as ten black or white blocks along the top,
the most significant bit first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.export.checkpoints import video_checkpoint
from tests.tiny import REPOSITORY, command, environment, run_here, tiny_options
from video_snl.config.video import DataConfig, ReaderName
from video_snl.data.decoding.readers import check_reader, open_video
from video_snl.data.video.catalog import load_videos
from video_snl.errors import UserError

READERS: list[ReaderName] = ["pyav", "decord"]
with suppress(UserError):  # an extra
    check_reader("torchcodec", "cpu")
    READERS.append("torchcodec")
Case = Callable[[Path, Path, Path], None]
"""A check of one row: the folder of the cases, the real data, an empty folder."""


@pytest.fixture(scope="module")
def cases(real_data: Path) -> Path:
    folder = real_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder


def _frames(path: Path, reader: ReaderName = "auto") -> Tensor:
    with closing(open_video(str(path), reader)) as video:
        return video.frames(range(len(video)))


def _numbers(frames: Tensor) -> list[int]:
    """The numbers that frames (T, H, W, 3) carry along their top."""
    side = frames.shape[2] // 10
    centres = torch.arange(10) * side + side // 2
    bits = frames[:, side // 4][:, centres].float().mean(dim=-1) > 128
    return (bits.long() * 2 ** torch.arange(9, -1, -1)).sum(dim=1).tolist()


def _one_line(*words: str, contains: tuple[str, ...]) -> None:
    done = run_here(*words)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    for part in contains:
        assert part in lines[-1], done.stderr


def _g13(cases: Path, data: Path, empty: Path) -> None:
    for reader in READERS:
        numbers = _numbers(_frames(cases / "video/g13.ts", reader))
        assert numbers == list(range(len(numbers)))


def _decoded(cases: Path, data: Path, empty: Path, name: str, count: int) -> None:
    frames = _frames(cases / "video" / name)
    assert len(frames) == count
    checked = run_here("check", "--root", str(_alone(cases / "video" / name, empty)), "--json")
    found = json.loads(checked.stdout)
    assert checked.returncode == 0, found


def _alone(source: Path, empty: Path) -> Path:
    """A folder that holds a link to one file."""
    (empty / "alone").mkdir(exist_ok=True)
    (empty / "alone" / source.name).symlink_to(source)
    return empty / "alone"


def _startrim(cases: Path, data: Path, empty: Path) -> None:
    _decoded(cases, data, empty, "el_starttrim.mp4", 35)


def _avchd(cases: Path, data: Path, empty: Path) -> None:
    frames = _frames(cases / "video/avchd.m2ts")
    assert len(frames) == 40
    assert _windows(cases / "video/avchd.m2ts", empty)[-1]["end"] == pytest.approx(1.6, abs=1e-3)


def _windows(video: Path, empty: Path) -> list[dict[str, float]]:
    checkpoint = video_checkpoint(empty / "run/checkpoints/best.ckpt")
    words = ("--checkpoint", str(checkpoint), "--window", "16f", "--accelerator", "cpu", "--json")
    done = run_here("predict", *words, "--short_videos", "repeat_last", str(video))
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    return found["windows"]


def _altref(cases: Path, data: Path, empty: Path) -> None:
    _decoded(cases, data, empty, "vp8_altref.webm", 60)


def _piped(cases: Path, data: Path, empty: Path) -> None:
    _decoded(cases, data, empty, "piped.avi", 60)


def _midgop(cases: Path, data: Path, empty: Path) -> None:
    assert len(_frames(cases / "video/midgop.ts")) == 34


def _ten_bit(cases: Path, data: Path, empty: Path) -> None:
    """Against the frames that FFmpeg makes of the file in 16 and in 8 bits."""
    path = cases / "video/x264_yuv420p10le.mp4"
    ours = _frames(path)
    for reader in READERS[1:]:
        other = _frames(path, reader)
        assert (ours.int() - other.int()).abs().max() <= 2
    exact = _ffmpeg(path, "rgb48le", np.dtype("<u2"), tuple(ours.shape)) / 257
    theirs = _ffmpeg(path, "rgb24", np.dtype("u1"), tuple(ours.shape))
    assert _psnr(ours.numpy(), exact) >= _psnr(theirs, exact) - 1


def _ffmpeg(path: Path, pixels: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    words = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    try:
        made = subprocess.run(words, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("the reference frames need the program ffmpeg")
    return np.frombuffer(made.stdout, dtype).reshape(shape).astype(np.float64)


def _psnr(frames: np.ndarray, exact: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((frames.astype(np.float64) - exact) ** 2)))


def _cover(cases: Path, data: Path, empty: Path) -> None:
    frames = _frames(cases / "video/bigcover.mkv")
    assert frames.shape[1:3] == (120, 160)
    assert _numbers(frames) == list(range(len(frames)))


def _classes(cases: Path, data: Path, empty: Path, name: str) -> Path:
    """A CSV file beside links to the class folders, as its paths want."""
    for folder in (data / "ucf5/UCF-101").iterdir():
        (empty / folder.name).symlink_to(folder)
    (empty / name).write_bytes(next(cases.glob(f"*/{name}")).read_bytes())
    return empty / name


def _mac_fork(cases: Path, data: Path, empty: Path) -> None:
    """The companion file is seen by no command: not by check, predict or train."""
    source = data / "ucf5/UCF-101/Lunges/v_Lunges_g01_c01.avi"
    [fork] = (cases / "video/mac_fork").iterdir()
    for name in ("train/Lunges", "test/Lunges", "train/Bow", "test/Bow"):
        (empty / "set" / name).mkdir(parents=True)
    for number, name in enumerate(("train/Lunges", "test/Lunges", "train/Bow", "test/Bow"), 1):
        video = source.with_name(f"v_Lunges_g01_c{number:02d}.avi")
        (empty / "set" / name / video.name).symlink_to(video)
        (empty / "set" / name / fork.name).write_bytes(fork.read_bytes())
    checked = run_here("check", "--root", str(empty / "set"), "--dataset", "folder", "--json")
    assert checked.returncode == 0, checked.stdout
    assert fork.name not in checked.stdout
    checkpoint = video_checkpoint(empty / "run/checkpoints/best.ckpt")
    words = ("--checkpoint", str(checkpoint), "--accelerator", "cpu", "--json")
    done = run_here("predict", *words, str(empty / "set"))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 4


def _trailing_space(cases: Path, data: Path, empty: Path) -> None:
    table = _classes(cases, data, empty, "trailing_space.csv")
    words = ("--data.dataset", "csv", "--data.root", str(table), "--model.backbone", "i3d_small")
    done = run_here("describe", *words, "--json")
    assert done.returncode == 0, done.stderr
    videos = load_videos(DataConfig(dataset="csv", root=str(table)))
    assert videos.class_names == ["JumpingJack", "Lunges"]


def _one_class(cases: Path, data: Path, empty: Path) -> None:
    table = _classes(cases, data, empty, "w_one.csv")
    words = tiny_options(table, empty / "runs", data__dataset="csv")
    _one_line("train", *words, contains=("class",))


def _test_only(cases: Path, data: Path, empty: Path) -> None:
    """Evaluated with the classes of the checkpoint; a training has nothing to train on."""
    table = _classes(cases, data, empty, "w_testonly.csv")
    words = tiny_options(table, empty / "runs", data__dataset="csv")
    _one_line("train", *words, contains=("train",))
    names = ("jump", "lunge, slowly")
    checkpoint = video_checkpoint(empty / "run/checkpoints/best.ckpt", names=names)
    data_words = ("--data.dataset", "csv", "--data.root", str(table), "--clips", "1")
    device = ("--trainer.accelerator", "cpu", "--trainer.progress", "false", "--crops", "1")
    done = run_here("evaluate", "--checkpoint", str(checkpoint), *data_words, *device)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((empty / "run/evaluation/metrics.json").read_text())
    assert metrics["videos"] == 6


def _gif(cases: Path, data: Path, empty: Path) -> None:
    """Refused within 2 GB of memory, where its frames would take 5.8 GB."""
    script = (
        "from video_snl.data.decoding.readers import open_video\n"
        "from video_snl.errors import UserError\n"
        "import sys\n"
        "try:\n"
        "    open_video(sys.argv[1]).frames([0])\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    path = str(cases / "hostile/gif_11000.mp4")
    # Not getrusage's: that of a child starts at the size of the process that made it.
    measured = (
        "[most] = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(most.split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + measured, path],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    message, kilobytes = done.stdout.strip().splitlines()
    assert "max_pixels" in message
    assert int(kilobytes) < 1_000_000


def _postscript(cases: Path, data: Path, empty: Path) -> None:
    """No other program is started: with an empty PATH the answer is the same."""
    from video_snl.data.image.reading import read_image

    with pytest.raises(UserError, match="accepted format"):
        read_image(str(cases / "hostile/postscript_named.png"))


def _newline(cases: Path, data: Path, empty: Path) -> None:
    table = _classes(cases, data, empty, "label_newline.csv")
    words = tiny_options(table, empty / "runs", data__dataset="csv")
    _one_line("train", *words, contains=("line",))


def _number(cases: Path, data: Path, empty: Path) -> None:
    _one_line("train", "--config", str(cases / "hostile/num.yaml"), contains=("data",))


def _deep(cases: Path, data: Path, empty: Path) -> None:
    done = subprocess.run(
        command("train", "--config", str(cases / "hostile/deep.yaml")),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr[:2000]


CASES: dict[str, Case] = {
    "video/g13.ts": _g13,
    "video/el_starttrim.mp4": _startrim,
    "video/avchd.m2ts": _avchd,
    "video/vp8_altref.webm": _altref,
    "video/piped.avi": _piped,
    "video/midgop.ts": _midgop,
    "video/x264_yuv420p10le.mp4": _ten_bit,
    "video/bigcover.mkv": _cover,
    "video/mac_fork/": _mac_fork,
    "video/trailing_space.csv": _trailing_space,
    "video/w_one.csv": _one_class,
    "video/w_testonly.csv": _test_only,
    "hostile/gif_11000.mp4": _gif,
    "hostile/postscript_named.png": _postscript,
    "hostile/label_newline.csv": _newline,
    "hostile/num.yaml": _number,
    "hostile/deep.yaml": _deep,
}


# Files of few bytes and many frames, tests/data/test_odd_files.py measures the memory of, too.
_SLOW = ("hostile/gif_11000.mp4",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in _SLOW else []) for name in CASES],
)
def test_right_answer(name: str, cases: Path, real_data: Path, tmp_path: Path) -> None:
    CASES[name](cases, real_data, tmp_path)


def test_every_row_of_the_table_is_a_case(cases: Path) -> None:
    rows = [
        line.split("|")[1].strip()
        for line in (cases / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(("| video/", "| hostile/"))
    ]
    named = {name for row in rows for name in _row_names(row)}
    assert named == CASES.keys()


def _row_names(row: str) -> list[str]:
    """``hostile/num.yaml, deep.yaml`` names two files of one folder."""
    folder = row.partition("/")[0]
    return [name if "/" in name else f"{folder}/{name}" for name in row.split(", ")]
