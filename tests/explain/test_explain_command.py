"""``video-snl explain`` as a user meets it, and what it writes against the network itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.export.checkpoints import video_checkpoint
from tests.tiny import run_command, run_here
from tests.videos import write_video
from video_snl.analysis.explain import figure3
from video_snl.analysis.explain.maps import gradcam, last_unit
from video_snl.blocks.insertion import inserted_blocks
from video_snl.cli.main import main
from video_snl.data.synthetic.sample import SampleSettings, generate
from video_snl.data.transforms.geometry import normalise
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import load_trained

FILES = {"index.html", "maps.npz", "explanation.json", "looks.png", "features.png"}
SIZE_LIMIT = 10_000_000


def untrained(run: Path, block: str, units: int = 1) -> Path:
    """The folder of a run whose network was not trained."""
    video_checkpoint(run / "checkpoints" / "best.ckpt", block, frames=6, side=48, num_units=units)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network with two sub-blocks of NS, so that there are some to tell apart."""
    return untrained(tmp_path_factory.mktemp("runs") / "ns", "ns", units=2)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network with one block, of which less is drawn."""
    return untrained(tmp_path_factory.mktemp("single") / "snl", "snl")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network without a block."""
    return untrained(tmp_path_factory.mktemp("bare") / "none", "none")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "clip.avi", frames=30)


@pytest.fixture(scope="module")
def explained(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an explanation of a generated video, and what was printed."""
    sample = tmp_path_factory.mktemp("sample") / "videos"
    generate(sample, SampleSettings(groups=4, clips_per_group=1))
    source = sorted(sample.rglob("*.avi"))[0]
    folder = tmp_path_factory.mktemp("explained") / "folder"
    done = explain(run, source, folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def explain(checkpoint: Path, source: Path | str, output: Path, *more: str) -> Any:
    words = ["explain", "--checkpoint", str(checkpoint), str(source), "-o", str(output)]
    return run_here(*words, "--accelerator", "cpu", *more)


def test_everything_is_in_the_folder(explained: tuple[Path, str]) -> None:
    folder, words = explained
    assert {path.name for path in folder.iterdir()} == FILES
    assert 10_000 < (folder / "index.html").stat().st_size < SIZE_LIMIT
    [network] = json.loads((folder / "explanation.json").read_text())["networks"]
    lines = words.splitlines()
    assert len(network["classes"]) == 3
    for line, row in zip(lines[1:], network["classes"], strict=False):
        assert line.split() == [row["class"], f"{row['score']:.2%}"]
    assert str(folder / "index.html") in lines[-1]
    assert [block["unit"] for block in network["blocks"]] == [0, 1]
    kinds = ["affinity", "affinity^2", "affinity^3", "sensitivity"]
    assert all(block["kinds"] == kinds for block in network["blocks"])
    assert all(block["grid"] == block["full_grid"] == [3, 3, 3] for block in network["blocks"])


def test_the_maps_are_those_of_the_network(explained: tuple[Path, str], run: Path) -> None:
    folder, _ = explained
    arrays = np.load(folder / "maps.npz")
    network = load_trained(checkpoint_path(str(run)))
    frames = arrays["0 frames"]
    assert frames.shape == (6, 48, 48, 3) and frames.dtype == np.uint8
    clip = normalise(torch.from_numpy(frames)[None], network.mean, network.std)
    [(position, block)] = inserted_blocks(network.model).items()
    given: list[torch.Tensor] = []
    block.register_forward_hook(lambda _, x, y: given.extend([x[0], y]))
    with torch.no_grad():
        scores = network.model(clip)[0].softmax(-1)
        dense = block.affinity(given[0]).to_dense()[0]
    for power in (1, 2, 3):
        name = "affinity" if power == 1 else f"affinity^{power}"
        expected = torch.linalg.matrix_power(dense, power).numpy()
        for unit in (0, 1):
            shown = arrays[f"0 {position} unit {unit} {name}"]
            np.testing.assert_allclose(shown, expected, rtol=1e-5, atol=1e-5)
    before, after = (x[0].norm(dim=0).numpy() for x in given)
    np.testing.assert_allclose(arrays[f"0 {position} unit 0 before"], before, rtol=1e-5)
    np.testing.assert_allclose(arrays[f"0 {position} unit 1 after"], after, rtol=1e-5)
    cam = arrays["0 gradcam"]
    assert len(cam) == 6 and cam.min() >= 0 and cam.max() in (0, 1)
    rows = json.loads((folder / "explanation.json").read_text())["networks"][0]["classes"]
    found = {row["class"]: row["score"] for row in rows}
    for name, score in zip(network.class_names, scores.tolist(), strict=True):
        assert found[name] == pytest.approx(score, abs=2e-6)


def test_pictures_are_of_the_position_asked_for(
    run: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3 x 3 x 3 positions and 6 frames, each has two frames, and a third of height and width."""
    place = (2, 0, 1)  # another number on every axis
    drawn: list[Any] = []
    draw = figure3._draw

    def noted(explanation: Any, rows: Any, *rest: Any) -> None:
        drawn.append(rows)
        draw(explanation, rows, *rest)

    monkeypatch.setattr(figure3, "_draw", noted)
    done = explain(run, video, tmp_path, "--at", ",".join(map(str, place)))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "explanation.json").read_text())["at"] == list(place)
    arrays = np.load(tmp_path / "maps.npz")
    names = [name for name in arrays.files if "affinity" in name or "sensitivity" in name]
    number = (place[0] * 3 + place[1]) * 3 + place[2]
    assert len(drawn[0]) == 1 + len(names) == 9
    for row, name in zip(drawn[0][1:], names, strict=True):
        np.testing.assert_array_equal(row.maps.ravel(), arrays[name][number])
    assert marked_cells(tmp_path / "looks.png", columns=6, rows=9) == {
        (line, column, place[1], place[2])
        for line in range(9)
        for column in (2 * place[0], 2 * place[0] + 1)
    }


def marked_cells(path: Path, *, columns: int, rows: int) -> set[tuple[int, int, int, int]]:
    """Find the boxes of the mark's colour in a figure: row, column, and ninth of the frame."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    found: set[tuple[int, int, int, int]] = set()
    # Labels are to the left, titles above, colour bars to the right; 150 pixels to the inch.
    left, above = (round(150 * inches) for inches in (figure3._LABEL, 0.28 + figure3._TITLE))
    frames = pixels[above:-3, left : left + round(150 * columns * figure3._CELL)]
    near = (abs(frames - [0, 229, 255]).max(2) < 40).nonzero()
    height, width = frames.shape[0] / rows, frames.shape[1] / columns
    boxes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for y, x in zip(*near, strict=True):
        place = int(y / height), int(x / width)
        boxes.setdefault(place, []).append((y / height % 1, x / width % 1))
    for place, inside in boxes.items():
        vertical, horizontal = (float(np.mean([min(v), max(v)])) for v in zip(*inside, strict=True))
        found.add((*place, int(3 * vertical), int(3 * horizontal)))
    return found


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("4,0,0", "position 4,0,0 is outside the feature map of 3x3x3 positions"),
        ("1,2", "--at 1,2: give a position of the feature map as T,ROW,COL"),
        ("-1,0,0", "give a position of the feature map as T,ROW,COL"),
    ],
)
def test_no_position(run: Path, video: Path, tmp_path: Path, at: str, message: str) -> None:
    done = explain(run, video, tmp_path / "out", f"--at={at}")
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.rglob("*.html"))


@pytest.mark.slow
def test_a_network_without_blocks(bare: Path, video: Path, tmp_path: Path) -> None:
    done = run_command(
        *("explain", "--checkpoint", str(bare), str(video), "-o", str(tmp_path / "out")),
        *("--accelerator", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    assert "The network has no blocks" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"looks.png"}
    assert "0 gradcam" in np.load(tmp_path / "out" / "maps.npz").files
    done = explain(bare, video, tmp_path / "other", "--at", "0,0,0")
    assert done.returncode == 2 and "the network has no blocks" in done.stderr


def test_two_networks_on_one_page(single: Path, bare: Path, video: Path, tmp_path: Path) -> None:
    done = explain(bare, video, tmp_path / "out", "--compare", str(single))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"features-0.png", "features-1.png", "looks-1.png"} <= names
    assert "looks-0.png" not in names
    values = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert [len(network["blocks"]) for network in values["networks"]] == [0, 1]
    assert values["networks"][1]["pictures"] == ["looks-1.png", "features-1.png"]


def test_bad_input_is_one_line(
    run: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, gone = tmp_path / "out", tmp_path / "gone"

    def refused(checkpoint: Path, source: Path, *words: str, output: Path = out) -> str:
        begin = ("explain", "--checkpoint", str(checkpoint), str(source), *words)
        assert main([*begin, "-o", str(output), "--accelerator", "cpu"]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        return line

    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"RIFF" + bytes(range(256)) * 20)
    assert "broken.avi" in refused(run, broken)
    assert "name one video" in refused(run, tmp_path)
    assert "no such file" in refused(run, tmp_path / "gone.avi")
    assert f"--checkpoint {gone}: no such" in refused(gone, video)
    assert f"--compare {gone}: no such file or folder" in refused(
        run, video, "--compare", str(gone)
    )
    taken = tmp_path / "taken"
    taken.write_text("")
    assert "cannot be written" in refused(run, video, output=taken)
    assert not (out / "index.html").exists()


def test_a_short_video(single: Path, tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.avi", frames=3)
    done = explain(single, short, tmp_path / "out")
    assert done.returncode == 2
    said = "short.avi has 3 frames, a clip spans 6: set --short_videos repeat_last or wrap"
    assert done.stderr.strip().endswith(said)
    done = explain(single, short, tmp_path / "out", "--short_videos", "repeat_last")
    assert done.returncode == 0, done.stderr


def test_grad_cam_is_its_formula(run: Path) -> None:
    model = load_trained(checkpoint_path(str(run))).model
    layer = last_unit(model)
    clip = torch.randn(1, 3, 8, 48, 48, generator=torch.Generator().manual_seed(0))
    maps: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, x, y: maps.append(y))
    logit = model(clip.requires_grad_())[0, 1]
    handle.remove()
    [gradient] = torch.autograd.grad(logit, maps)
    weights = gradient.mean((2, 3, 4), keepdim=True)
    expected = (weights * maps[0]).sum(1).relu()[0].detach()
    found = gradcam(model, layer, clip.detach(), 1)
    times = torch.nn.functional.interpolate(
        expected[None, None], (8, *expected.shape[1:]), mode="trilinear"
    )[0, 0]
    np.testing.assert_allclose(found, (times / times.max()).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_real_clip(run: Path, real_data: Path, tmp_path: Path) -> None:
    source = next((real_data / "ucf5" / "UCF-101").rglob("*.avi"))
    done = run_command(
        *("explain", "--checkpoint", str(run), str(source), "-o", str(tmp_path / "out")),
        *("--accelerator", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    arrays = np.load(tmp_path / "out" / "maps.npz")
    assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
    assert arrays["0 frames"].std() > 10
