"""``reid explain`` as a user meets it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from reid.retrieval.extract import find_tracklets
from reid.trained import load_trained
from tests.reid.little import run, write_tracklet
from tests.reid_trees import real_file
from video_snl.analysis.model_input import analysis_input, explained
from video_snl.runs.run import checkpoint_path


def test_a_tracklet(with_block: Path, tmp_path: Path) -> None:
    write_tracklet(tmp_path / "t0", 5, 0, frames=6)
    words = ["explain", str(tmp_path / "t0"), "-o", str(tmp_path / "out"), "--accelerator", "cpu"]
    done = run(*words, "--checkpoint", str(with_block))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.html", "maps.npz", "explanation.json", "looks.png", "features.png"}
    [network] = json.loads((tmp_path / "out" / "explanation.json").read_text())["networks"]
    assert network["classes"] == []
    assert [block["position"] for block in network["blocks"]] == ["after:conv2", "after:conv3"]
    assert [block["full_grid"] for block in network["blocks"]] == [[2, 4, 2], [2, 2, 1]]


def test_the_maps_are_over_all_frames(with_block: Path, tmp_path: Path) -> None:
    write_tracklet(tmp_path / "t0", 5, 0, frames=6)
    trained = load_trained(checkpoint_path(str(with_block)))
    [(name, tracklet)] = find_tracklets([str(tmp_path / "t0")]).items()
    entry = analysis_input(trained, name, tracklet, torch.device("cpu"))
    given: list[torch.Tensor] = []
    first = next(iter(entry.blocks.values()))
    handle = first.register_forward_hook(lambda _, x, y: given.append(x[0]))
    with torch.no_grad():
        trained.model(entry.clip)
        handle.remove()
        dense = first.affinity(given[0]).to_dense()[0].numpy()
    [explanation] = explained([entry])
    assert explanation.frames.shape == (2, 32, 16, 3)
    np.testing.assert_allclose(explanation.blocks[0].maps["affinity"], dense, rtol=1e-5, atol=1e-5)


def test_a_network_to_compare_with_is_named_as_the_first(with_block: Path, tmp_path: Path) -> None:
    """A folder of runs stands for its run, of either option."""
    write_tracklet(tmp_path / "t0", 5, 0, frames=6)
    words = ["explain", str(tmp_path / "t0"), "-o", str(tmp_path / "out"), "--accelerator", "cpu"]
    runs, gone = str(with_block.parent), str(tmp_path / "gone")
    done = run(*words, "--checkpoint", runs, "--compare", runs)
    assert done.returncode == 0, done.stderr
    networks = json.loads((tmp_path / "out" / "explanation.json").read_text())["networks"]
    assert len(networks) == 2 and networks[0]["checkpoint"] == networks[1]["checkpoint"]
    for first, second, option in ((gone, runs, "--checkpoint"), (runs, gone, "--compare")):
        done = run(*words, "--checkpoint", first, "--compare", second)
        assert done.returncode == 2 and f"{option} {gone}: no such file or folder" in done.stderr


def test_bad_input_is_one_line(with_block: Path, dataset: Path, tmp_path: Path) -> None:
    def refused(*words: str | Path) -> str:
        done = run("explain", "--checkpoint", str(with_block), *map(str, words))
        assert done.returncode == 2 and "Traceback" not in done.stderr
        [line] = done.stderr.strip().splitlines()
        return line

    out = tmp_path / "out"
    assert "holds 3 tracklets: name one" in refused(dataset / "query", "-o", out)
    assert "does not exist" in refused(tmp_path / "gone", "-o", out)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0001.jpg").write_bytes(b"no image")
    assert "can be read" in refused(broken, "-o", out)
    write_tracklet(tmp_path / "t0", 5, 0)
    assert "outside the feature map of 2x4x2" in refused(tmp_path / "t0", "-o", out, "--at=0,9,0")


def test_a_real_tracklet(with_block: Path, real_data: Path, tmp_path: Path) -> None:
    """The images of one pedestrian under one camera."""
    groups = json.loads(real_file(real_data, "market1501_subset_tracklets.json").read_text())
    names = max((group["frames"] for group in groups["gallery"]), key=len)
    folder = tmp_path / "person"
    folder.mkdir()
    with zipfile.ZipFile(real_file(real_data, "market1501_subset.zip")) as archive:
        for name in names:
            (folder / Path(name).name).write_bytes(archive.read(name))
    out = tmp_path / "out"
    words = ["explain", "--checkpoint", str(with_block), str(folder), "-o", str(out)]
    done = run(*words, "--accelerator", "cpu")
    assert done.returncode == 0, done.stderr
    assert (out / "looks.png").stat().st_size > 10_000 and (out / "index.html").is_file()
    arrays = np.load(out / "maps.npz")
    assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
    assert arrays["0 frames"].shape == (2, 32, 16, 3) and arrays["0 frames"].std() > 10
    for position in ("after:conv2", "after:conv3"):
        affinity = arrays[f"0 {position} unit 0 affinity"]
        assert np.abs(np.linalg.eigvalsh(affinity.astype(np.float64))).max() < 1 + 1e-4


def test_spectra_of_tracklets(with_block: Path, dataset: Path, tmp_path: Path) -> None:
    """``reid spectrum`` of one that is named, one that is damaged, and of the run's queries."""
    write_tracklet(tmp_path / "t0", 5, 0, frames=6)
    (tmp_path / "t1").mkdir()
    (tmp_path / "t1" / "0.jpg").write_bytes(b"no image")
    words = ["spectrum", "--checkpoint", str(with_block), "--accelerator", "cpu", "--json"]
    done = run(*words, str(tmp_path / "t0"), str(tmp_path / "t1"))
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert line.startswith("reid spectrum: error:") and "t1" in line
    found = json.loads(done.stdout)
    assert len(found["inputs"]) == 1
    assert [block["position"] for block in found["blocks"]] == ["after:conv2", "after:conv3"]
    assert all(len(block["graphs"]) == 1 and block["units"] for block in found["blocks"])
    queries = json.loads(run(*words, "--inputs", "2").stdout)
    assert len(queries["inputs"]) == 2 and all(str(dataset) in name for name in queries["inputs"])
