"""``video-snl spectrum`` as a user meets it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.export.checkpoints import video_checkpoint
from tests.tiny import only_run, run_command, run_here
from tests.tiny_images import image_options
from tests.videos import write_video
from video_snl.analysis.model_input import AnalysisInput, analysis_input, block_inputs
from video_snl.analysis.spectrum import run as spectra
from video_snl.analysis.spectrum.filters import eigenvalues
from video_snl.blocks.insertion import inserted_blocks
from video_snl.cli.main import main
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import load_trained
from video_snl.tasks.operations import evenly_spaced

PLOTS = {"decay-{}", "eigenvalues-{}", "groups-{}-unit0", "parts-{}-unit0", "response-{}-unit0"}


def untrained(run: Path, block: str, root: Path) -> Path:
    """The folder of a run whose network was not trained."""
    video_checkpoint(run / "checkpoints" / "best.ckpt", block, root=str(root))
    return run


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("runs") / "snl", "snl", root)


@pytest.mark.slow
def test_the_test_list(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ["spectrum", "--checkpoint", str(run), "--inputs", "2", "--accelerator", "cpu"]
    done = run_command(*words, "-o", str(folder))
    assert done.returncode == 0, done.stderr
    assert "2 inputs, mean ± standard deviation" in done.stdout
    assert "before:res4.1" in done.stdout and "effective rank" in done.stdout
    name = "before-res4.1"
    expected = {f"{plot.format(name)}.png" for plot in PLOTS}
    files = {"spectrum.json", "eigenvalues.csv", "responses.csv"}
    assert {path.name for path in folder.iterdir()} == files | expected
    for plot in expected:
        with Image.open(folder / plot) as shown:
            assert min(shown.size) > 300 and len(shown.convert("L").getcolors(256)) > 10
    values = json.loads((folder / "spectrum.json").read_text())
    _check_eigenvalues(run, values, folder)


def _check_eigenvalues(run: Path, values: dict, folder: Path) -> None:
    network = load_trained(checkpoint_path(str(run)))
    [block] = inserted_blocks(network.model).values()
    [found] = values["blocks"]
    with (folder / "eigenvalues.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for source, graph in zip(values["inputs"], found["graphs"], strict=True):
        given = analysis_input(network, source, Path(source), torch.device("cpu"))
        [x] = block_inputs(given).values()
        with torch.no_grad():
            expected = eigenvalues(block.affinity(x))[0].tolist()
        written = [value for value, count in graph["eigenvalues"] for _ in range(count)]
        assert graph["input"] == source and written == pytest.approx(expected, abs=1e-6)
        ours = [row for row in rows if row["input"] == source]
        again = [float(row["real"]) for row in ours for _ in range(int(row["multiplicity"]))]
        assert again == written


def test_bad_inputs_are_one_line_each(run: Path, tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.avi", frames=20)
    bad = tmp_path / "bad.avi"
    bad.write_bytes(b"no video")
    words = ["spectrum", "--checkpoint", str(run), "--accelerator", "cpu"]
    done = run_here(*words, "--json", str(good), str(bad))
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert line.startswith("video-snl spectrum: error:") and str(bad) in line
    assert json.loads(done.stdout)["inputs"] == [str(good)]
    for options, said in (
        ([str(tmp_path / "none.avi")], "no such file or folder"),
        ([str(good), "--groups", "0"], "--groups 0: give at least 1"),
        ([str(good), "-o", str(good)], "cannot be written"),
    ):
        done = run_here(*words, *options)
        assert done.returncode == 2 and said in done.stderr and not done.stdout


def test_an_input_that_overflows_is_a_line_and_no_number(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network makes infinities of one of two videos; the files have the other one alone."""
    good, bad = (str(write_video(tmp_path / f"{name}.avi", frames=20)) for name in ("a", "b"))

    def inputs(given: AnalysisInput) -> dict[str, torch.Tensor]:
        found = block_inputs(given)
        if given.source == bad:
            [x] = found.values()
            x[0, 0] = torch.inf
        return found

    monkeypatch.setattr(spectra, "block_inputs", inputs)
    folder = tmp_path / "out"
    words = ["spectrum", "--checkpoint", str(run), "--accelerator", "cpu", "--json"]
    done = run_here(*words, "-o", str(folder), good, bad)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert bad in line and "are not finite and cannot be measured" in line
    for text in (done.stdout, (folder / "spectrum.json").read_text()):
        values = json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert values["inputs"] == [good] and len(values["blocks"][0]["graphs"]) == 1
    done = run_here(*words, "-o", str(tmp_path / "none"), bad)
    assert done.returncode == 2 and not done.stdout and not list((tmp_path / "none").iterdir())


def test_networks_without_an_affinity(root: Path, tmp_path: Path) -> None:
    video = str(write_video(tmp_path / "a.avi", frames=20))
    bare = untrained(tmp_path / "bare", "none", root)
    done = run_here("spectrum", "--checkpoint", str(bare), video)
    assert done.returncode == 2 and "a network without blocks" in done.stderr
    gated = untrained(tmp_path / "gated", "se", root)
    done = run_here("spectrum", "--checkpoint", str(gated), "-o", str(tmp_path / "out"), video)
    assert done.returncode == 0, done.stderr
    assert "se before:res4.1: no affinity between positions: it has no spectrum" in done.stdout
    assert not list((tmp_path / "out").glob("*.png"))


def test_images(tmp_path: Path) -> None:
    options = {"optimizer__epochs": 1, "model__block": "snl"}
    assert main(["train", *image_options(tmp_path / "runs", **options)]) == 0
    words = ["spectrum", "--checkpoint", str(only_run(tmp_path / "runs")), "--json"]
    listed = run_here(*words, "--inputs", "2", "--accelerator", "cpu")
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    assert len(found["inputs"]) == 2 and all(len(b["graphs"]) == 2 for b in found["blocks"])
    image = tmp_path / "p.png"
    Image.effect_noise((40, 40), 80).save(image)
    named = run_here(*words, "--accelerator", "cpu", str(image))
    assert json.loads(named.stdout)["inputs"] == [str(image)], named.stderr


def test_inputs_are_spread_over_the_list() -> None:
    assert evenly_spaced(4, 100) == [12, 37, 62, 87]
    assert evenly_spaced(5, 3) == [0, 1, 2]
