"""Still images of every kind, read by the one function of both packages."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid.data.check import inspect
from reid.data.reading import read_nearest
from reid.data.tracklet import Tracklet
from tests.image_trees import noise_image, write_cityscapes, write_folders
from video_snl.config.image import ImageDataConfig
from video_snl.data.decoding.readers import open_video
from video_snl.data.image.catalog import load_images
from video_snl.data.image.reading import (
    ACCEPTED_FORMATS,
    UnreadableImage,
    open_image,
    read_image,
    read_label_map,
)
from video_snl.errors import UserError
from video_snl.render.film_strips import read_frame as read_for_strip
from video_snl.utils.media import IMAGE_SUFFIXES

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 65536, (16, 12, 4), dtype=np.uint16)
UPRIGHT = Image.fromarray(RANDOM.integers(0, 256, (16, 24, 3), dtype=np.uint8))


def eight(values: np.ndarray) -> np.ndarray:
    return np.rint(values / 257).astype(np.uint8)


def write_png16(path: Path, values: np.ndarray) -> Path:
    """A PNG of 16 bits: grey (H, W), or (H, W, C) with 2 (grey, alpha), 3 or 4 channels."""
    values = values[..., None] if values.ndim == 2 else values
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    path.write_bytes(png(struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0), rows))
    return path


def png(header: bytes, rows: bytes, extra: bytes = b"") -> bytes:
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_ppm16(path: Path, values: np.ndarray) -> Path:
    kind = b"P5" if values.ndim == 2 else b"P6"
    header = kind + f"\n{values.shape[1]} {values.shape[0]}\n65535\n".encode()
    path.write_bytes(header + values.astype(">u2").tobytes())
    return path


def turned(path: Path, orientation: int, image: Image.Image = UPRIGHT) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if path.suffix == ".webp" else {}
    image.save(path, exif=exif, **options)
    return path


def shown(orientation: int) -> np.ndarray:
    """Show pixels of this orientation as a viewer does, by the EXIF standard's table."""
    stored = np.asarray(UPRIGHT)
    turns = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored, 1),
    }
    return turns[orientation]


@pytest.mark.parametrize("name", ["grey.png", "rgb.png", "rgba.png", "grey.pgm", "rgb.ppm"])
def test_16_bits_are_divided_by_257_and_rounded(tmp_path: Path, name: str) -> None:
    """A cast would turn nearly all of them white."""
    values = {"grey": DEEP[..., 0], "rgb": DEEP[..., :3], "rgba": DEEP}[name.split(".")[0]]
    write = write_png16 if name.endswith(".png") else write_ppm16
    read = np.asarray(read_image(write(tmp_path / name, values)))
    expected = np.stack([values] * 3, -1) if values.ndim == 2 else values[..., :3]
    assert read.dtype == np.uint8 and np.array_equal(read, eight(expected))


def test_16_bits_grey_with_alpha(tmp_path: Path) -> None:
    read = np.asarray(read_image(write_png16(tmp_path / "la.png", DEEP[..., :2])))
    assert np.array_equal(read, eight(np.stack([DEEP[..., 0]] * 3, -1)))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_16_bits_of_tiff(tmp_path: Path, compression: str | None) -> None:
    grey = Image.frombytes("I;16", (12, 16), DEEP[..., 0].astype("<u2").tobytes())
    grey.save(tmp_path / "grey.tif", compression=compression)
    read = np.asarray(read_image(tmp_path / "grey.tif"))
    assert np.array_equal(read, eight(np.stack([DEEP[..., 0]] * 3, -1)))


def test_16_bits_in_separate_planes_are_refused(tmp_path: Path) -> None:
    """Pillow reads their bytes as pixels."""
    entries = [
        (256, 4, 3), (257, 4, 2), (258, 3, 0), (259, 3, 1), (262, 3, 2), (273, 4, 0),
        (277, 3, 3), (278, 4, 2), (279, 4, 0), (284, 3, 2),
    ]  # fmt: skip
    values = DEEP[:2, :3, :3].astype("<u2")
    body = b"".join(values[..., channel].tobytes() for channel in range(3))
    bits, offsets, lengths = 8, 14, 26
    pixels, directory = 38, 38 + len(body)
    head = struct.pack("<2sHI3H3I3I", b"II", 42, directory, 16, 16, 16, *(
        pixels + 12 * channel for channel in range(3)
    ), 12, 12, 12)  # fmt: skip
    places = {258: (3, bits), 273: (3, offsets), 279: (3, lengths)}
    listed = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        count, value = places.get(tag, (1, value))
        listed += struct.pack("<HHII", tag, kind, count, value)
    (tmp_path / "planes.tif").write_bytes(head + body + listed + struct.pack("<I", 0))
    with pytest.raises(UnreadableImage, match="16 bits in separate planes"):
        read_image(tmp_path / "planes.tif")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_of_32_bits_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "deep.tif")
    with pytest.raises(UnreadableImage, match="32 bits"):
        read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    image = read_image(turned(tmp_path / f"a{suffix}", orientation))
    expected = shown(orientation)
    assert np.asarray(image).shape == expected.shape
    if suffix != ".jpg":
        assert np.array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_grey_tiff_files_are_not_torn_when_they_are_turned(
    tmp_path: Path, orientation: int
) -> None:
    grey = UPRIGHT.convert("L")
    read = np.asarray(read_image(turned(tmp_path / "a.tif", orientation, grey)))[..., 0]
    assert sorted(read.ravel()) == sorted(np.asarray(grey).ravel())
    stored = np.asarray(grey)
    turns = {
        5: stored.T,
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].T,
        8: np.rot90(stored, 1),
    }
    assert np.array_equal(read, turns[orientation])


def test_a_draft_is_never_below_the_size_asked_for(tmp_path: Path) -> None:
    wide = noise_image(1, 240, 640)
    for orientation, size in ((1, (120, 320)), (6, (320, 120))):
        path = turned(tmp_path / f"{orientation}.jpg", orientation, wide)
        image = read_image(path, draft=size)
        assert (image.height, image.width) == size
        assert read_image(path, draft=(size[0] + 1, 1)).height == 2 * size[0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_ordinary_images_are_what_pillow_makes_of_them(tmp_path: Path, mode: str) -> None:
    UPRIGHT.convert(mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(image.convert("RGB"))
    read = read_image(tmp_path / "a.png")
    assert read.mode == "RGB" and np.array_equal(np.asarray(read), expected)


def test_cmyk_and_palettes_with_transparency(tmp_path: Path) -> None:
    UPRIGHT.convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(np.asarray(read_image(tmp_path / "a.jpg"), int) - np.asarray(UPRIGHT)).max() < 12
    UPRIGHT.quantize(16).save(tmp_path / "p.png", transparency=bytes(range(16)))
    with Image.open(tmp_path / "p.png") as image:
        assert np.array_equal(np.asarray(read_image(tmp_path / "p.png")), image.convert("RGB"))


def test_of_several_frames_the_first_is_read(tmp_path: Path) -> None:
    colours = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    for name in ("a.webp", "a.png", "a.tif", "a.gif"):
        colours[0].save(tmp_path / name, save_all=True, append_images=colours[1:])
        red, green, _ = read_image(tmp_path / name).getpixel((4, 4))
        assert red > 150 > 50 > green, name


@pytest.mark.parametrize("suffix", [".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".jfif"])
def test_suffixes_that_were_passed_over(tmp_path: Path, suffix: str) -> None:
    assert suffix in IMAGE_SUFFIXES
    UPRIGHT.save(tmp_path / f"1{suffix.upper()}")
    read = read_image(tmp_path / f"1{suffix.upper()}")
    assert read.size == UPRIGHT.size
    frames = open_video(str(tmp_path)).frames([0])[0]
    assert torch.equal(frames, torch.from_numpy(np.array(read)))


def test_all_readers_see_the_same_pixels(tmp_path: Path) -> None:
    """A frame folder, a tracklet, a film strip and a class of images of the same files."""
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    write_png16(folder / "1.png", DEEP[..., 0])
    turned(folder / "2.png", 6, Image.fromarray(RANDOM.integers(0, 255, (12, 16), np.uint8)))
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    files = [str(folder / "1.png"), str(folder / "2.png")]
    expected = [np.asarray(read_image(file)) for file in files]
    assert expected[0].shape == (16, 12, 3) and expected[0].std() > 10
    frames = open_video(str(folder)).frames([0, 1])
    tracklet = read_nearest(Tracklet(tuple(files), 0, 0), [0, 1], (16, 12)).video
    config = ImageDataConfig(dataset="folder", root=str(tmp_path), height=16, width=12)
    images = load_images(config).test
    for index, pixels in enumerate(expected):
        strip = read_for_strip(files[index])
        assert strip is not None and np.array_equal(np.asarray(strip), pixels)
        for read in (frames[index], tracklet[index], images[0, index]["image"]):
            assert np.array_equal(read.numpy(), pixels)
    assert inspect(tuple(files)) == []


def test_label_maps_keep_their_numbers(tmp_path: Path) -> None:
    numbers = RANDOM.integers(0, 16, (8, 12), dtype=np.uint8)
    grey = Image.fromarray(numbers)
    palette = grey.convert("P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    for name, image in (("grey.png", grey), ("palette.png", palette), ("grey.tif", grey)):
        for orientation in (1, 3, 6):
            turned(tmp_path / name, orientation, image)
            assert np.array_equal(read_label_map(tmp_path / name), numbers), (name, orientation)
    header = struct.pack(">IIBBBBB", 12, 8, 4, 0, 0, 0, 0)
    packed = (numbers[:, ::2] << 4) | numbers[:, 1::2]
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    (tmp_path / "four.png").write_bytes(png(header, rows))
    assert np.array_equal(read_label_map(tmp_path / "four.png"), numbers)
    Image.fromarray(numbers > 7).save(tmp_path / "two_classes.png")  # of 1 bit
    assert np.array_equal(read_label_map(tmp_path / "two_classes.png"), numbers > 7)
    UPRIGHT.save(tmp_path / "rgb.png")
    with pytest.raises(UnreadableImage, match="label map"):
        read_label_map(tmp_path / "rgb.png")
    # Pillow changes the numbers of these.
    (tmp_path / "a.pgm").write_bytes(b"P5 12 8 15\n" + numbers.tobytes())
    grey.save(tmp_path / "white.tif", tiffinfo={262: 0})
    for name in ("a.pgm", "white.tif"):
        with pytest.raises(UnreadableImage, match="as PNG"):
            read_label_map(tmp_path / name)
    grey.save(tmp_path / "b.pgm")
    assert np.array_equal(read_label_map(tmp_path / "b.pgm"), numbers)


def test_an_image_that_no_longer_fits_its_label_map_counts_as_unreadable(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path)
    path = next((root / "leftImg8bit" / "val").rglob("*.png"))
    with Image.open(path) as image:
        turned(path, 6, image.copy())
    data = load_images(ImageDataConfig(dataset="cityscapes", root=str(root), height=16, width=16))
    gathered = data.test.gather([(0, 0)])
    assert gathered.error is None and gathered.batch["unreadable"].tolist() == [0]
    assert gathered.batch["missed"].shape == (1, 32, 64)
    [(named, reason)] = gathered.failures
    assert named == str(path) and "64 x 32" in reason and "32 x 64" in reason


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript that is named .png started Ghostscript."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", start)
    monkeypatch.setattr(subprocess, "Popen", start)
    path = str(tmp_path / "postscript_named.png")
    Path(path).write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(UnreadableImage, match="accepted format"):
        read_image(path)
    [finding] = inspect((path,))
    assert finding.kind == "unreadable" and "accepted format" in finding.detail
    assert read_for_strip(path) is None
    assert "EPS" not in ACCEPTED_FORMATS


def _limits_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


def _header(width: int, height: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)


ZEROS = zlib.compress(bytes(100_000_000))
BOMBS: dict[str, Callable[[], bytes]] = {
    "size.png": lambda: png(_header(60_000, 60_000), bytes(1000)),
    "iccp.png": lambda: png(_header(4, 4), bytes(20), chunk(b"iCCP", b"a\0\0" + ZEROS)),
    "ztxt.png": lambda: png(_header(4, 4), bytes(20), chunk(b"zTXt", b"a\0\0" + ZEROS)),
    "size.pgm": lambda: b"P5 60000 60000 255 ",
    "size.bmp": lambda: (
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 1, 1, 0, 0)
    ),
    "size.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0x80, 0, 0) + bytes(6)
    + b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x4c\x01\x00;",
    "tags.tif": lambda: _tiff_of_many_tags(),
}  # fmt: skip


def _tiff_of_many_tags() -> bytes:
    """Each of 20,000 tags claims the same megabyte."""
    entries = [struct.pack("<HHII", 1000 + i, 7, 1 << 20, 8) for i in range(20_000)]
    size = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in ((256, 4), (257, 4))]
    directory = struct.pack("<H", 20_002) + b"".join(size + entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + (1 << 20)) + bytes(1 << 20) + directory


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_memory_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name]())
    script = (
        "import sys, resource\n"
        "from video_snl.data.image.reading import UnreadableImage, read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    read_image(sys.argv[1])\n"
        "except UnreadableImage as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    said, kilobytes = done.stdout.splitlines()
    assert said.startswith(str(tmp_path / name)) and int(kilobytes) < 100_000
    assert ("max_pixels" in said) == name.startswith("size")


def test_processes_that_only_read_images_load_no_torch() -> None:
    script = "import sys, reid.data.check\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_limit_is_an_option(tmp_path: Path) -> None:
    UPRIGHT.save(tmp_path / "a.png")
    pixels = UPRIGHT.width * UPRIGHT.height
    read_image(tmp_path / "a.png", max_pixels=pixels)
    with pytest.raises(UnreadableImage, match="24 x 16 pixels.*max_pixels=383"):
        read_image(tmp_path / "a.png", max_pixels=pixels - 1)
    with pytest.raises(UnreadableImage, match="max_pixels"):
        read_label_map(tmp_path / "a.png", max_pixels=10)
    with pytest.raises(UserError, match="max_pixels"):
        load_images(ImageDataConfig(max_pixels=0))
    root = write_folders(tmp_path / "set")
    config = ImageDataConfig(dataset="folder", root=str(root), max_pixels=100)
    gathered = load_images(config).test.gather([(0, 0)])
    assert gathered.batch["unreadable"].tolist() == [0] and "max_pixels" in gathered.failures[0][1]


def test_pipes_sockets_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    (tmp_path / "2.png").mkdir()
    for name in ("1.png", "2.png", "3.png", "/dev/zero"):
        with pytest.raises(UnreadableImage, match="cannot be read"):
            read_image(tmp_path / name)


def test_an_open_file_can_be_read_too() -> None:
    with (
        open(__file__, "rb") as file,
        pytest.raises(UnreadableImage, match="accepted format"),
        open_image(file),
    ):
        pass


def test_what_a_class_folder_holds_besides_images_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(tmp_path)
    cat = root / "train" / "cat"
    for name in ("._000.jpg", ".DS_Store", "Thumbs.db"):
        (cat / name).write_bytes(b"system")
    for name in ("notes.txt", "clip.avi"):
        (cat / name).write_bytes(b"other")
    os.mkfifo(cat / "pipe.jpg")
    (cat / "gone.jpg").symlink_to("nowhere")
    (cat / "self.jpg").symlink_to("self.jpg")
    (cat / "loop").symlink_to(".")
    (root / "train" / "__MACOSX").mkdir()
    name = os.fsdecode(b"\xff.TIFF")
    noise_image(1).save(cat / name, format="TIFF")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(cat / "s.png"))
    config = ImageDataConfig(dataset="folder", root=str(root), height=16, width=16)
    data = load_images(config)
    listening.close()
    assert data.class_names == ["cat", "dog"]
    assert [os.path.basename(path) for path in data.train.paths[:5]] == [
        *(f"{i:03}.jpg" for i in range(4)),
        name,
    ]
    assert data.train.gather([(0, i) for i in range(9)]).failures == []
    [said] = capsys.readouterr().err.splitlines()
    assert "ignored 7" in said and "notes.txt" in said and "clip.avi" in said
    assert "Thumbs" not in said
