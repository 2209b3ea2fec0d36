"""``video-snl export`` and ``predict --model``, as a user meets them."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.export.checkpoints import (
    CLASSES,
    flipped,
    image_checkpoint,
    video_checkpoint,
    video_network,
)
from tests.tiny import REPOSITORY, run_command, run_here
from tests.videos import write_video
from video_snl.config.task_spec import IMAGE, VIDEO
from video_snl.errors import UserError
from video_snl.export import command as recording
from video_snl.export.networks import load_exported

CPU = torch.device("cpu")
UNTIMED = ("--runs", "0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return video_checkpoint(folder / "checkpoints" / "best.ckpt", root="/home/somebody/videos")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_video(tmp_path_factory.mktemp("videos") / "a.avi", frames=30))


def guesses(*words: str) -> Any:
    done = run_here("predict", "--json", "--accelerator", "cpu", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_guesses(ours: Any, expected: Any) -> None:
    """Scores are rounded to six places."""
    if isinstance(expected, dict):
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            assert_same_guesses(ours[name], value)
    elif isinstance(expected, list):
        for mine, other in zip(ours, expected, strict=True):
            assert_same_guesses(mine, other)
    else:
        assert ours == (pytest.approx(expected, abs=2e-5) if type(expected) is float else expected)


# That a .pt2 file of free sizes answers as its checkpoint, the test of images below says, too.
@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".pt2", marks=pytest.mark.slow)])
def test_export_and_predict(suffix: str, checkpoint: Path, video: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    words = ["--checkpoint", str(checkpoint), "-o", str(path), "--input", video]
    done = run_here("export", *words, "--runs", "2", "--compiled", "false", "--json")
    assert done.returncode == 0, done.stderr
    assert "input: clips (batch, channels=3, frames, height, width)" in done.stdout
    assert "\neager " in done.stdout and "\nexported, " in done.stdout
    report = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert [found["input"] for found in report["differences"]] == ["random"] * 2 + ["given"]
    assert all(0 <= found["difference"] <= 1e-4 for found in report["differences"])
    assert [form["name"].split(",")[0] for form in report["forms"]] == ["eager", "exported"]
    assert all(form["latency"] > 0 and form["size"] > 1e6 for form in report["forms"])
    assert report["bytes"] == path.stat().st_size and report["threads"] == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.json"]
    windows = [["--window", "10f", "--hop", "7f"]] if suffix == ".onnx" else []
    for views in (["--clips", "3"], *windows):
        expected = guesses("--checkpoint", str(checkpoint), *views, video)
        assert_same_guesses(guesses("--model", str(path), *views, video), expected)
    assert b"/home/somebody" not in path.read_bytes()
    if suffix == ".onnx":  # all of whose bytes are under its seal
        damaged = flipped(path, tmp_path / "damaged" / path.name, path.stat().st_size // 2)
        refused = run_here("predict", "--model", str(damaged), video)
        assert refused.returncode == 2 and str(damaged) in refused.stderr
    # Recorded, written, compared on three inputs; no terminal, so that there are plain lines.
    assert "\nexport steps: 4 of 4\n" in done.stderr and "\x1b" not in done.stderr


@pytest.mark.slow
def test_examples_of_the_docs(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "model.pt2"):
        done = run_here("export", "--checkpoint", str(checkpoint), "-o", name, *UNTIMED)
        assert done.returncode == 0, done.stderr
    text = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "export.md", "exec"), {})  # noqa: S102
        assert capsys.readouterr().out.strip() in CLASSES


@pytest.mark.slow
def test_in_a_process_of_its_own(checkpoint: Path, video: str, tmp_path: Path) -> None:
    path = str(tmp_path / "model.onnx")
    done = run_command("export", "--checkpoint", str(checkpoint), "-o", path, *UNTIMED)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines and all(
        line.startswith(("video-snl export: ", "export steps: ")) for line in lines
    )
    done = run_command("predict", "--model", path, "--top", "1", video)
    assert done.returncode == 0 and done.stderr == ""
    name, guess = done.stdout.splitlines()
    assert name == video and guess.split()[0] in CLASSES


def test_that_a_pt2_file_runs_code_is_said() -> None:
    """A file without a pickled entry runs code, too, so none is refused by its entries."""
    words = " ".join(run_here("predict", "--help").stdout.split())
    assert "Reading a .pt2 file can run code in it, which cannot be told beforehand" in words
    text = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
    assert "Reading a `.pt2` can run any code" in text


@pytest.mark.slow
def test_why_entries_do_not_tell_whether_a_pt2_file_runs_code(tmp_path: Path) -> None:
    """A size that is a formula is evaluated. Where torch mends this, entries can tell."""

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x]).reshape(-1)

    made, ran = tmp_path / "a.pt2", tmp_path / "ran"
    axes = ({0: torch.export.Dim("n", min=2)},)
    graph = torch.export.export(Twice(), (torch.zeros(4, 3),), dynamic_shapes=axes)
    torch.export.save(graph, made)
    code = json.dumps(f"open({str(ran)!r}, 'w').close() or 2")
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(tmp_path / "b.pt2", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            assert b'"use_pickle": true' not in content
            if name.endswith("models/model.json"):
                content = re.sub(rb'(?<="expr_str": )"Mul[^"]*"', lambda _: code.encode(), content)
            new.writestr(name, content)
    with contextlib.suppress(Exception):
        torch.export.load(tmp_path / "b.pt2")
    assert ran.exists()


def test_a_short_input(checkpoint: Path, tmp_path: Path) -> None:
    short = str(write_video(tmp_path / "short.avi", frames=3))
    words = ["--checkpoint", str(checkpoint), "-o", str(tmp_path / "m.pt2")]
    done = run_here("export", *words, "--input", short)
    assert done.returncode == 2
    said = "short.avi has 3 frames, a clip spans 4: give a longer --input"
    assert done.stderr.strip().endswith(said)


@pytest.mark.parametrize("suffix", [pytest.param(".onnx", marks=pytest.mark.slow), ".pt2"])
def test_fixed_sizes(suffix: str, checkpoint: Path, video: str, tmp_path: Path) -> None:
    words = ["--checkpoint", str(checkpoint), *UNTIMED]
    path = tmp_path / f"model{suffix}"
    done = run_here("export", *words, "--dynamic", "none", "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert "input: clips (batch=1, channels=3, frames=4, height=32, width=32)" in done.stdout
    network = load_exported(path, VIDEO, CPU).model
    assert network(torch.zeros(3, 3, 4, 32, 32)).shape == (3, len(CLASSES))
    with pytest.raises(UserError, match="takes inputs of height=32, not 40: export it with"):
        network(torch.zeros(1, 3, 4, 40, 32))
    expected = guesses("--checkpoint", str(checkpoint), video)
    assert_same_guesses(guesses("--model", str(path), video), expected)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_some_free_axes(suffix: str, checkpoint: Path, tmp_path: Path) -> None:
    path, words = tmp_path / f"model{suffix}", ["--checkpoint", str(checkpoint), *UNTIMED]
    done = run_here("export", *words, "--dynamic", "width,frames", "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert "(batch=1, channels=3, frames, height=32, width)" in done.stdout
    network = load_exported(path, VIDEO, CPU).model
    assert network(torch.zeros(2, 3, 7, 32, 50)).shape == (2, len(CLASSES))
    with pytest.raises(UserError, match="takes inputs of frames=4 or more, not 3"):
        network(torch.zeros(2, 3, 3, 32, 50))


def test_cayley_is_no_onnx(tmp_path: Path) -> None:
    path = str(video_checkpoint(tmp_path / "cayley.ckpt", "cayley"))
    done = run_here("export", "--checkpoint", path, "-o", str(tmp_path / "model.onnx"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "Cayley filters" in line and "export it with --format torch" in line
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_a_network_that_takes_no_smaller_pictures_than_in_training(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, path = recording.exported_graph, tmp_path / "model.pt2"

    def not_small(network: torch.nn.Module, example: torch.Tensor, least: Any) -> Any:
        if min(least.values(), default=0) < 1 or least[2] < 32:
            raise RuntimeError("Constraints violated (height)!")
        return record(network, example, least)

    monkeypatch.setattr(recording, "exported_graph", not_small)
    checkpoint = image_checkpoint(tmp_path / "best.ckpt")
    words = ["--checkpoint", str(checkpoint), "-o", str(path), "--input", image, *UNTIMED]
    done = run_here("export", *words, "--dynamic", "width,height", "--json")
    assert done.returncode == 0, done.stderr
    assert "input: images (batch=1, channels=3, height, width)" in done.stdout
    assert "recorded for the sizes of the training and larger ones alone" in done.stderr
    report = json.loads((tmp_path / "model.pt2.json").read_text())
    assert report["input"]["smallest"] == report["input"]["sizes"] == [32, 32]
    assert [found["input"] for found in report["differences"]] == ["random"] * 2 + ["given"]
    expected = guesses("--checkpoint", str(checkpoint), image)
    assert_same_guesses(guesses("--model", str(path), image), expected)
    with pytest.raises(UserError, match="it has no entry 'video_snl'"):
        load_exported(path, VIDEO, CPU)
    network = load_exported(path, IMAGE, CPU).model
    assert network(torch.zeros(2, 3, 32, 50)).shape == (2, len(CLASSES))
    with pytest.raises(UserError, match="takes inputs of height=32 or more, not 31"):
        network(torch.zeros(2, 3, 31, 50))


@pytest.mark.slow
def test_a_file_that_differs_is_not_left(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recording.exported_graph
    other = video_network("snl")
    torch.nn.init.constant_(list(other.parameters())[-1], 3.0)
    monkeypatch.setattr(recording, "exported_graph", lambda _, *rest: record(other, *rest))
    for name in ("model.onnx", "model.pt2"):
        path = tmp_path / name
        done = run_here("export", "--checkpoint", str(checkpoint), "-o", str(path), *UNTIMED)
        assert done.returncode == 2 and "differs from the checkpoint's by" in done.stderr
        path.write_bytes(b"of before")
        run_here("export", "--checkpoint", str(checkpoint), "-o", str(path), *UNTIMED)
        assert path.read_bytes() == b"of before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]


@pytest.mark.slow
def test_compiled_or_why_not(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(network: torch.nn.Module) -> Any:
        def run(x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("outer") from OSError("no C++ compiler\nand more")

        return run

    monkeypatch.setattr(torch, "compile", no_compiler)
    words = ["--checkpoint", str(checkpoint), "-o", str(tmp_path / "m.pt2"), "--runs", "1"]
    done = run_here("export", *words)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("compiled")]
    assert line.split(maxsplit=3)[3] == "not possible: OSError: no C++ compiler"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "model.bin"], "model.bin: expected a file that ends in .onnx or .pt2"),
        (["-o", "m.onnx", "--format", "torch"], "give a name that ends in .pt2"),
        (
            ["--dynamic", "time"],
            "'time' is not an axis of this network's input; name some of batch,",
        ),
        (["--runs", "-1"], "--runs -1: give 0 or more"),
        (["--input", "none.avi"], "--input none.avi: no such file"),
    ],
)
def test_bad_options(
    words: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here("export", "--checkpoint", str(checkpoint), *words)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert message in line and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_files_that_are_none(name: str, video: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in (None, b"", b"no such file" * 100):
        if content is not None:
            path.write_bytes(content)
        done = run_here("predict", "--model", str(path), video)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert (
            str(path) in line and ("no such file" if content is None else "cannot be read") in line
        )
    done = run_here("predict", "--model", str(path), "--checkpoint", "x.ckpt", video)
    assert done.returncode == 2 and "give one of the two" in done.stderr


def test_a_graph_of_others_says_nothing_of_itself(video: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    graph = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(graph, path)
    done = run_here("predict", "--model", str(path), video)
    assert done.returncode == 2 and "was not written by video-snl export" in done.stderr


@pytest.fixture
def image(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["preresnet20", "fcn_r50_d8"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_pictures(backbone: str, suffix: str, image: str, tmp_path: Path) -> None:
    checkpoint = str(image_checkpoint(tmp_path / "best.ckpt", backbone))
    path = str(tmp_path / f"model{suffix}")
    words = ["--checkpoint", checkpoint, "-o", path, "--input", image, *UNTIMED]
    done = run_here("export", *words)
    assert done.returncode == 0, done.stderr
    assert "input: images (batch, channels=3, height, width)" in done.stdout
    expected = guesses("--checkpoint", checkpoint, image)
    assert_same_guesses(guesses("--model", path, image), expected)
    with pytest.raises(UserError, match="it has no entry 'video_snl'"):
        load_exported(Path(path), VIDEO, CPU)
