"""Videos and images with what was found drawn on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from tests.tiny import command, environment, only_run, run_command, run_here, tiny_options
from tests.tiny_images import image_options
from tests.videos import grey, write_streams, write_video
from video_snl.cli.main import main
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.engine.plots import confusion_picture
from video_snl.errors import UserError
from video_snl.render import fonts
from video_snl.render.fonts import (
    Line,
    draw_lines,
    figure_fonts,
    letters_for,
    shortened,
    spelled,
    text_size,
)
from video_snl.render.image import class_colours, labelled, overlaid, targets
from video_snl.render.video import caption_at, captions_of, render_video

NAMES = ("Bow", "Clap", "Dive")


def predictions(*names: str, start: float | None = None, end: float | None = None) -> dict:
    times = {} if start is None else {"start": start, "end": end}
    return times | {"predictions": [{"class": name, "score": 0.5} for name in names]}


def decoded(path: Path) -> tuple[np.ndarray, list[float], tuple[Any, ...]]:
    """Frames, their times, and (codec, pixels, frames a second, seconds) of a silent video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        assert not container.streams.audio
        seconds = stream.duration and float(stream.duration * stream.time_base)
        context = stream.codec_context
        facts = (context.name, context.pix_fmt, stream.average_rate, seconds)
        times = [float(frame.pts * stream.time_base) for frame in frames]
        return pixels, times, facts


@pytest.fixture(scope="module")
def words(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command, with a network of three classes."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *tiny_options(root, output, optimizer__epochs=1)]) == 0
    return ["predict", "--checkpoint", str(only_run(output)), "--accelerator", "cpu"]


def test_a_rendered_video_is_the_video_with_labels(tmp_path: Path) -> None:
    source = write_streams(tmp_path / "a.mp4", [(240, 320)], frames=20)
    render_video(str(source), tmp_path / "out.mp4", captions_of(predictions(*NAMES)))
    found, times, facts = decoded(tmp_path / "out.mp4")
    before, old_times, _ = decoded(source)
    assert facts == ("h264", "yuv420p", 25, pytest.approx(20 / 25, abs=1e-3))
    assert found.shape == before.shape == (20, 240, 320, 3)
    assert times == pytest.approx(old_times, abs=1e-4)
    change = np.abs(found.astype(int) - before).mean((0, 3))
    assert change[8:40, 8:60].mean() > 20  # the box and the letters
    assert change[100:, :].max() < 8 and change[:, 200:].max() < 8
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_odd_sizes_rotation_and_pixels_that_are_not_square(tmp_path: Path, real_data: Path) -> None:
    name = "torchcodec_testsrc2_odd_height_and_width_mpeg2.mp4"
    for path in (real_data / "odd_videos" / name, real_data / "odd_videos" / "decord_video_90.mov"):
        reader = PyAVReader(str(path))
        count = min(len(reader), 6)
        first = reader.frames([0])[0].numpy()
        reader.close()
        cut = _shortened_copy(path, tmp_path, count)
        render_video(str(cut), tmp_path / "out.mp4", captions_of(predictions("Bow")))
        found, _, _ = decoded(tmp_path / "out.mp4")
        height, width = first.shape[:2]
        assert found.shape[1:3] == (height + height % 2, width + width % 2)
        part = found[0, height // 2 : height, width // 2 : width].astype(int)
        assert np.abs(part - first[height // 2 :, width // 2 :]).mean() < 6


def _shortened_copy(path: Path, folder: Path, packets: int) -> Path:
    """The first packets of a video, its display matrix included."""
    target = folder / f"short{path.suffix}"
    with av.open(str(path)) as source, av.open(str(target), "w") as writer:
        stream = source.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if number == packets or packet.dts is None:
                break
            packet.stream = copy
            writer.mux(packet)
    return target


def test_frames_keep_their_uneven_times(tmp_path: Path) -> None:
    path, stamps = tmp_path / "uneven.mkv", [0, 40, 120, 130, 400, 440]  # milliseconds
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(grey(index, (64, 96)), "rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    render_video(str(path), tmp_path / "out.mp4", captions_of(predictions("Bow")))
    assert decoded(tmp_path / "out.mp4")[1] == pytest.approx([s / 1000 for s in stamps], abs=1e-3)


def test_windows_change_the_label_at_their_times(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.avi", frames=20, size=(120, 200))
    windows = {
        "windows": [
            predictions("Bow", start=0.0, end=0.4),
            predictions("Clap", start=0.4, end=0.8),
        ]
    }
    captions = captions_of(windows)
    assert [caption_at(captions, t)[1].name for t in (0.0, 0.36, 0.4, 0.76)] == [
        *("Bow", "Bow", "Clap", "Clap")
    ]
    render_video(str(source), tmp_path / "out.mp4", captions)
    pixels, times, _ = decoded(tmp_path / "out.mp4")
    source_frames = decoded(source)[0]
    for frame, time_, original in zip(pixels, times, source_frames, strict=True):
        by_name = {
            name: _difference(frame, original, [*lines, caption_at(captions, time_)[-1]])
            for name, lines in (
                ("Bow", [Line("0.00 s – 0.40 s"), Line("Bow", "50.0%")]),
                ("Clap", [Line("0.40 s – 0.80 s"), Line("Clap", "50.0%")]),
            )
        }
        assert min(by_name, key=by_name.__getitem__) == ("Bow" if time_ < 0.399 else "Clap"), time_


def _difference(frame: np.ndarray, original: np.ndarray, lines: list[Line]) -> float:
    expected = np.asarray(draw_lines(Image.fromarray(original), lines)).astype(int)
    return float(np.abs(frame.astype(int) - expected).mean())


def test_overlapping_windows_share_the_lines() -> None:
    spans = ((0, 2), (1, 3), (1.2, 3.2), (1.4, 3.4))
    captions = captions_of({"windows": [predictions(*NAMES, start=s, end=e) for s, e in spans]})
    lines = [line.name for line in caption_at(captions, 1.5)]
    # Those whose middles are 1, 2, 2.2 seconds; one class each.
    shown = ["0.00 s – 2.00 s", "Bow", "1.00 s – 3.00 s", "Bow", "1.20 s – 3.20 s", "Bow"]
    assert lines == [*shown, "0:01.50"]
    assert [line.name for line in caption_at(captions, 3723.456)] == ["1:02:03.46"]
    whole = [line.name for line in caption_at(captions_of(predictions(*NAMES)), 59.999)]
    assert whole == [*NAMES, "1:00.00"]


def test_letters_fit_and_are_readable_on_any_background() -> None:
    long = Line("x" * 500, "50.0%")
    for size in ((320, 240), (64, 64), (1280, 720), (500, 24)):
        for background in (0, 128, 255):
            image = Image.new("RGB", size, (background,) * 3)
            drawn = np.asarray(draw_lines(image, [long, Line("größer Ω Ж", "1.0%")])).astype(int)
            assert drawn.shape[:2] == size[::-1]
            assert (drawn[:, -text_size(size[1]) // 2 :] == background).all()  # nothing cut off
            box = drawn[text_size(size[1]) // 2 :, text_size(size[1]) // 2 :]
            assert box.max() > 240 and np.percentile(box[:8], 5) < 110
    font = letters_for(["größer"], 20)
    assert shortened("Bow", font, 200) == "Bow"
    assert shortened("x" * 50, font, 100).endswith("…")
    assert font.getlength(shortened("x" * 50, font, 100)) <= 100


SCRIPTS = ("拍手 Klatschen", "손뼉", "拍手する", "تصفيق", "מחיאות כפיים", "größer Ω Ж")


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without other fonts."""
    monkeypatch.setattr(fonts, "_installed", list)
    monkeypatch.setattr(fonts, "_told", set())
    fonts._fonts.cache_clear()
    yield
    fonts._fonts.cache_clear()


def inked(text: str) -> np.ndarray:
    """Return the mask of the white letters on black, without the box."""
    return np.asarray(draw_lines(Image.new("RGB", (600, 480)), [Line(text)])).min(2) > 128


@pytest.mark.parametrize("text", SCRIPTS)
def test_names_of_any_script_are_drawn(text: str) -> None:
    """Each with glyphs of its own: boxes for what is missing would all be alike."""
    if spelled(text) != text:
        pytest.skip("no font on this machine has this script")
    letters = letters_for([text], 40)
    drawn = []
    for character in sorted({c for c in text if c.isalpha()}):
        image = Image.new("L", (120, 80))
        letters.draw(ImageDraw.Draw(image), (10, 10), character, fill=255)
        drawn.append(np.asarray(image).tobytes())
        assert image.getbbox()
    assert len(set(drawn)) == len(drawn)
    assert inked(text).any()


@pytest.mark.usefixtures("only_dejavu")
def test_what_no_font_has_is_spelled_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert spelled("拍 größer") == "\\u62cd größer"
    assert spelled("拍") == "\\u62cd"
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert spelled("تصفيق") == "تصفيق"  # DejaVu Sans has it
    assert (inked("拍") == inked("\\u62cd")).all()
    assert capsys.readouterr().err == ""


def test_what_cannot_be_seen_is_spelled() -> None:
    assert spelled("a\nb\x1b\udc80") == "a\\u000ab\\u001b\\udc80"
    assert spelled("e\u0301") == "é"
    assert inked("a\nb").any()


@pytest.mark.parametrize("text", [*SCRIPTS, "costs $5 and $6", "a\nb", "x^2_{3"])
def test_figures_have_the_letters_of_class_names(
    text: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "confusion.png"
    names = [text, "Bow"]
    confusion_picture(np.array([[3, 1], [0, 0]]), names, path, title="t", unit="videos")
    assert path.stat().st_size > 1000
    assert not [w for w in recwarn if "missing from" in str(w.message)]
    with figure_fonts([text]):
        assert matplotlib.rcParams["font.family"][0] == "DejaVu Sans"


@pytest.mark.usefixtures("only_dejavu")
def test_figures_without_fonts_warn_of_no_glyph(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    confusion_picture(np.eye(2), ["拍手", "Bow"], tmp_path / "c.png", title="t", unit="videos")
    assert not [w for w in recwarn if "missing from" in str(w.message)]
    figure = Figure()
    figure.text(0, 0, "拍手")
    with pytest.warns(UserWarning, match="missing from"):  # the letters as they are
        figure.savefig(tmp_path / "d.png")


def test_where_files_go(tmp_path: Path) -> None:
    a, b = tmp_path / "one" / "a.avi", tmp_path / "two" / "a.avi"
    for path in (a, b):
        write_video(path, frames=2)
    suffixes = [".mp4", ".mkv"]
    out = tmp_path / "out"
    assert targets(str(out / "x.mkv"), [a], suffixes=suffixes) == {a: out / "x.mkv"}
    both = targets(str(out), [a, b], suffixes=suffixes)
    assert both == {a: out / "a.mp4", b: out / "a-2.mp4"}
    assert targets(str(out), [a, b, a], suffixes=suffixes) == both
    # A file that is called so itself keeps its name, wherever it stands.
    c, d = tmp_path / "three" / "a-2.avi", tmp_path / "four" / "A.avi"
    four = targets(str(out), [a, b, c, d], suffixes=suffixes)
    assert [four[path].name for path in (a, b, c, d)] == ["a.mp4", "a-3.mp4", "a-2.mp4", "A-4.mp4"]
    for named, sources, said in (
        (str(out / "x.mp4"), [a, b], "name a folder for 2 files"),
        (str(out / "x.wmv"), [a], "ends in .mp4, .mkv"),
        (str(a / "x.mp4"), [b], "cannot be written"),
    ):
        with pytest.raises(UserError, match=said):
            targets(named, sources, suffixes=suffixes)
    same = a.with_suffix(".mp4")
    a.rename(same)
    with pytest.raises(UserError, match="would replace"):
        targets(str(same), [same], suffixes=suffixes)


@pytest.mark.slow
def test_the_command(words: list[str], tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.avi", frames=60, size=(96, 128))
    broken = tmp_path / "b.avi"
    broken.write_bytes(source.read_bytes()[:3000])
    options = ["--window", "20f", "--clips", "1", "--crops", "1", "--render", str(tmp_path / "out")]
    done = run_command(*words, *options, str(source), str(broken))
    assert done.returncode == 2
    assert f"rendered, without sound: {tmp_path / 'out' / 'a.mp4'}" in done.stdout
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert str(broken) in line and "Traceback" not in done.stderr
    assert "rendering a.avi: 60 of 60" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]
    assert decoded(tmp_path / "out" / "a.mp4")[0].shape == (60, 96, 128, 3)
    shown = run_here(
        *words, "--clips", "1", "--render", str(tmp_path / "c.mp4"), str(source), "--json"
    )
    assert json.loads(shown.stdout)[0]["rendered"] == str(tmp_path / "c.mp4")


def test_a_video_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    """The first clip of the video can be read, its end cannot."""
    path = write_video(tmp_path / "a.avi", frames=200, size=(96, 128))
    content = bytearray(path.read_bytes())
    index = content.rfind(b"idx1")
    for place in range(index // 2, index - 64):
        content[place] = (7 * place) % 251
    path.write_bytes(content)
    target = tmp_path / "out" / "x.mp4"
    target.parent.mkdir()
    with pytest.raises(UserError, match="breaks while frames"):
        render_video(str(path), target, captions_of(predictions("Bow")))
    assert list(target.parent.iterdir()) == []


@pytest.mark.slow
def test_an_interruption_leaves_no_file(words: list[str], tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.avi", frames=1500, size=(240, 320))
    options = ["--clips", "1", "--crops", "1", "--render", str(tmp_path / "out" / "x.mp4")]
    process = subprocess.Popen(
        command(*words, *options, str(source)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while not any(p.stat().st_size for p in _hidden(tmp_path / "out")) and time.monotonic() < end:
        time.sleep(0.05)
    assert _hidden(tmp_path / "out"), "it was done before it could be interrupted"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


def _hidden(folder: Path) -> list[Path]:
    return list(folder.glob(".*")) if folder.is_dir() else []


def test_pictures_are_labelled(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert main(["train", *image_options(output, optimizer__epochs=1)]) == 0
    image = tmp_path / "p.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(image)
    run: list[Any] = ["predict", "--checkpoint", str(only_run(output)), "--accelerator", "cpu"]
    done = run_here(*run, "--render", str(tmp_path / "out"), str(image))
    assert done.returncode == 0, done.stderr
    assert f"rendered: {tmp_path / 'out' / 'p.png'}" in done.stdout
    with Image.open(tmp_path / "out" / "p.png") as shown:
        pixels = np.asarray(shown).astype(int)
    assert pixels.shape == (240, 320, 3)  # eight times as large
    assert (pixels[-40:] == (200, 30, 30)).all() and (pixels[:60] != (200, 30, 30)).any()


def test_overlay_shows_the_label_of_every_pixel() -> None:
    labels = np.zeros((60, 100), int)
    labels[:, 75:] = 2
    image = Image.new("RGB", (200, 120), (100, 100, 100))
    shown = np.asarray(overlaid(image, labels, ["road", "sky", "car"])).astype(int)
    assert shown.shape[0] == 120 and shown.shape[1] > 240
    colours = class_colours(3)
    for column, label in ((10, 0), (140, 0), (160, 2), (199, 2)):
        expected = 0.45 * 100 + 0.55 * colours[label].astype(int)
        assert np.abs(shown[50, column] - expected).max() <= 1
    legend = shown[:, 200:]
    for label, present in ((0, True), (1, False), (2, True)):
        assert (legend == colours[label]).all(2).any() == present
    assert len({tuple(colour) for colour in class_colours(150).tolist()}) == 150
    assert labelled(Image.new("L", (300, 250)), [Line("cat", "9.0%")]).size == (300, 250)
