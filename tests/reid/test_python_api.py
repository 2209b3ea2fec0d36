"""``reid.load`` and ``reid.Gallery``: the same numbers as ``reid extract`` and ``reid search``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import reid
from reid.data.tracklet import NO_NUMBER, UNKNOWN
from reid.retrieval.features import read_features
from tests.reid.little import HEIGHT, WIDTH, run
from tests.reid.test_features import make_table
from video_snl.errors import UserError


@pytest.fixture(scope="module")
def network(trained: Path) -> reid.Extractor:
    return reid.load(trained, device="cpu")


def frames_of(tracklet: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(tracklet.iterdir())])


def test_every_public_name_is_there() -> None:
    for name in reid.__all__:
        assert getattr(reid, name).__name__ == name and name in dir(reid)


@pytest.mark.parametrize("frames", ["all", "2"])
def test_extract_is_the_command(
    network: reid.Extractor, trained: Path, dataset: Path, tmp_path: Path, frames: str
) -> None:
    target = tmp_path / "f.parquet"
    words = ["--checkpoint", str(trained), "--accelerator", "cpu", "--test_frames", frames]
    folder = dataset / "gallery"
    done = run("extract", *words, "--layout", "folder", "-o", str(target), str(folder))
    assert done.returncode == 0, done.stderr
    theirs = read_features(target)
    options: Any = {"layout": "folder", "test_frames": None if frames == "all" else int(frames)}
    ours = network.table(folder, **options)
    assert (ours.names, ours.persons, ours.model) == (theirs.names, theirs.persons, theirs.model)
    np.testing.assert_array_equal(ours.features, theirs.features)
    found = network.extract(folder, **options)
    assert found.dtype == np.float32 and found.shape == (len(theirs), network.dimension)
    np.testing.assert_array_equal(found, theirs.features)
    # The frames in memory, of another number in each tracklet.
    arrays = [frames_of(Path(name)) for name in theirs.names]
    assert len({len(array) for array in arrays}) > 1
    of_arrays = network.extract(arrays, test_frames=options["test_frames"])
    np.testing.assert_allclose(of_arrays, theirs.features, rtol=0, atol=1e-6)
    tensors = [torch.from_numpy(array) for array in arrays]
    np.testing.assert_array_equal(network.extract(tensors, test_frames=options["test_frames"]),
                                  of_arrays)  # fmt: skip


def test_frames_of_any_size_are_resized(network: reid.Extractor) -> None:
    flat = [np.full((3, height, 2 * height, 3), 90, np.uint8) for height in (7, 50)]
    found = network.extract([*flat, np.full((3, HEIGHT, WIDTH, 3), 90, np.uint8)])
    np.testing.assert_allclose(found[:2], found[[2, 2]], rtol=0, atol=1e-6)
    assert network.extract(flat[0]).shape == (1, network.dimension)
    assert network.extract([]).shape == (0, network.dimension)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((3, 8, 8, 3), np.float32), r"array 0: expected .* uint8 .*found float32"),
        ([np.zeros((8, 8, 3), np.uint8)], r"array 0: .* found uint8 of shape \(8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"array 0: .*\(0, 8, 8, 3\)"),
        (["nowhere", np.zeros((3, 8, 8, 3), np.uint8)], "paths and arrays in one list"),
        ("nowhere", "nowhere"),
        (None, "expected paths or arrays of frames, one or a list, found None"),
        ([None], "expected paths or arrays of frames, one or a list, found None"),
        (3, "expected paths or arrays of frames, one or a list, found 3"),
        (b"a", "expected paths or arrays of frames, one or a list, found 97"),
        ("", "a path is empty"),
    ],
)
def test_what_cannot_be_extracted(network: reid.Extractor, given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        network.extract(given)
    with pytest.raises(UserError, match="test_frames=0: give 1 or more"):
        network.extract(np.zeros((3, 8, 8, 3), np.uint8), test_frames=0)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("osnet_x0_25_msmt", {}, "no file or folder.* did you mean osnet_x0_25_msmt17"),
        ("runs/none", {}, "runs/none: no such file or folder"),
        (".", {"weights": "w.pth"}, "weights='w.pth' goes with the name of a published"),
        (".", {"device": "tpu"}, "device tpu: choose auto, cpu or gpu"),
    ],
)
def test_networks_that_are_not_there(source: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        reid.load(source, **options)


def test_runs_of_tracklets_are_not_those_of_videos(trained: Path) -> None:
    import video_snl

    with pytest.raises(UserError, match="is a run of reid: use reid.load"):
        video_snl.load(trained)


# ---- the gallery ---------------------------------------------------------------------------------


def test_search_is_the_command(
    network: reid.Extractor, trained: Path, dataset: Path, tmp_path: Path
) -> None:
    gallery = reid.Gallery()
    gallery.add(network.table(dataset / "gallery", layout="folder"))
    gallery.write(tmp_path / "g.parquet")
    query = dataset / "query" / "101" / "c0" / "t0"
    words = ["--checkpoint", str(trained), "--gallery", str(tmp_path / "g.parquet"), "--json"]
    done = run("search", *words, "--top", "3", str(query))
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)["queries"]
    for asked in (network.table(query), network.extract(query)):
        [found] = gallery.search(asked, top=3)
        assert [
            {"name": m.name, "person": m.person, "camera": m.camera, "distance": m.distance}
            for m in found
        ] == [
            {
                "name": each["name"],
                "person": each["person_name"],
                "camera": each["camera_name"],
                "distance": each["distance"],
            }
            for each in answer["results"]
        ]
    read = reid.Gallery.read(tmp_path / "g.parquet")
    assert read.names == gallery.names and len(read) == len(gallery)
    assert read.search(network.extract(query), top=3) == gallery.search(
        network.extract(query), top=3
    )


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    queries=st.integers(1, 4),
    top=st.integers(1, 30),
    metric=st.sampled_from(["cosine", "euclidean"]),
    seed=st.integers(0, 99),
)
def test_the_nearest_are_found(
    sizes: list[int], queries: int, top: int, metric: Any, seed: int
) -> None:
    """Against a loop over all pairs in float64; adding in parts changes nothing."""
    generator = np.random.default_rng(seed)
    parts = [generator.normal(size=(size, 5)).astype(np.float32) for size in sizes]
    asked = generator.normal(size=(queries, 5)).astype(np.float32)
    gallery = reid.Gallery()
    for number, part in enumerate(parts):
        gallery.add(part, [f"{number}-{row}" for row in range(len(part))])
    everything = np.concatenate(parts)
    np.testing.assert_array_equal(gallery.features, everything)
    found = gallery.search(asked, top=top, metric=metric)
    assert [len(each) for each in found] == [min(top, len(everything))] * queries
    for query, matches in zip(asked.astype(np.float64), found, strict=True):
        distances = []
        for vector in everything.astype(np.float64):
            if metric == "cosine":
                norms = np.linalg.norm(query) * np.linalg.norm(vector)
                distances.append(1 - float(query @ vector) / norms)
            else:
                distances.append(float(np.linalg.norm(query - vector)))
        order = np.argsort(distances, kind="stable")[:top]
        assert [match.row for match in matches] == order.tolist()
        assert [match.name for match in matches] == [gallery.names[row] for row in order]
        np.testing.assert_allclose([m.distance for m in matches], np.sort(distances)[:top],
                                   atol=1e-5)  # fmt: skip


def test_names_of_people_and_cameras(tmp_path: Path) -> None:
    gallery = reid.Gallery()
    vectors = np.eye(3, dtype=np.float32)
    gallery.add(vectors[:2], persons=["0007", None], cameras=["door", "2"])
    gallery.add(vectors[2])
    assert gallery.names == ["0", "1", "2"] and len(gallery) == 3
    gallery.write(tmp_path / "g.parquet")
    table = read_features(tmp_path / "g.parquet")
    assert (table.persons, table.cameras) == (["0007", None, None], ["door", "2", None])
    assert table.person_ids.tolist() == [7, UNKNOWN, UNKNOWN]
    assert table.camera_ids.tolist() == [NO_NUMBER, 2, UNKNOWN]
    [[match]] = reid.Gallery.read(tmp_path / "g.parquet").search(vectors[0], top=1)
    assert (match.person, match.camera, match.row) == ("0007", "door", 0)
    assert match.distance == pytest.approx(0, abs=1e-6)


def test_a_gallery_grows_by_single_vectors() -> None:
    """20,000 additions; each alone must not cost what the whole gallery does."""
    vectors = np.random.default_rng(0).standard_normal((20_000, 4)).astype(np.float32)
    gallery = reid.Gallery()
    for number, vector in enumerate(vectors):
        gallery.add(vector, [f"n{number}"], persons=[f"p{number % 3}"])
        assert len(gallery) == number + 1
    assert np.array_equal(gallery.features, vectors)
    assert gallery.names == [f"n{number}" for number in range(20_000)]
    for row in (0, 7777, 19_999):
        [[match]] = gallery.search(vectors[row], top=1)
        assert (match.row, match.name, match.person) == (row, f"n{row}", f"p{row % 3}")


def test_what_a_gallery_refuses(
    network: reid.Extractor, gallery: Path, dataset: Path, tmp_path: Path
) -> None:
    other = reid.Gallery.read(gallery)  # of another network
    with pytest.raises(UserError, match="extract both with one checkpoint"):
        other.search(network.table(dataset / "query", layout="folder"))
    with pytest.raises(UserError, match="extract both with one checkpoint"):
        other.add(network.table(dataset / "query", layout="folder"))
    size = len(other)
    empty = reid.Gallery()
    with pytest.raises(UserError, match="the gallery is empty"):
        empty.search(np.ones((1, 3), np.float32))
    with pytest.raises(UserError, match="there is nothing to write"):
        empty.write(tmp_path / "g.parquet")
    empty.add(np.ones((1, 3), np.float32))
    for wrong, said in (
        (np.ones((1, 4), np.float32), "dimension 3 .* the query's 4"),
        (np.full((1, 3), np.nan), "row 0 are not finite"),
        (np.array([[1, 1e300, 1]]), r"row 0 reach 1e\+300, which float32 cannot hold"),
        (np.ones((1, 3), np.int64), r"floats of shape \(N, D\), found int64"),
        (np.ones((1, 1, 3)), r"found float64 of shape \(1, 1, 3\)"),
        (np.ones((0, 3)), r"found float64 of shape \(0, 3\)"),
    ):
        with pytest.raises(UserError, match=said):
            empty.search(wrong)
        with pytest.raises(UserError, match=said):
            empty.add(wrong)
    for option in ("names", "persons", "cameras"):
        with pytest.raises(UserError, match=f"{option} has 2 entries for 1 features"):
            empty.add(np.ones((1, 3), np.float32), **{option: ["a", "b"]})
    with pytest.raises(UserError, match="top=0 must be at least 1"):
        empty.search(np.ones((1, 3), np.float32), top=0)
    assert len(empty) == 1 and len(other) == size


@pytest.mark.parametrize("option", ["names", "persons", "cameras"])
def test_names_of_a_gallery_are_text(option: str) -> None:
    gallery = reid.Gallery()
    for wrong, said in (
        ("abc", "='abc': give a list of names"),
        (b"abc", "=b'abc': give a list of names"),
        (3, "=3: give a list of names"),
        ([b"a", "b", "c"], ": expected names as text, found b'a'"),
        (["a", 2, "c"], ": expected names as text, found 2"),
        (["a", "b", "\udcff"], r": '\\udcff' is not text in UTF-8"),
    ):
        with pytest.raises(UserError, match=f"^{option}{said}"):
            gallery.add(np.eye(3), **{option: wrong})
    if option == "names":
        with pytest.raises(UserError, match="^names: expected names as text, found None"):
            gallery.add(np.eye(3), [None] * 3)  # type: ignore[list-item]
    assert len(gallery) == 0


def test_a_gallery_begins_with_a_table() -> None:
    with pytest.raises(UserError, match=r"found ndarray; vectors are added by Gallery\(\)\.add"):
        reid.Gallery(np.eye(3))  # type: ignore[arg-type]


def test_names_of_files_that_are_not_utf8_stay_as_they_are_written(tmp_path: Path) -> None:
    table = make_table(2, names=["a\udcff", "b"])
    added, begun = reid.Gallery(), reid.Gallery(table)
    added.add(table)
    for gallery in added, begun:
        gallery.write(tmp_path / "g.parquet")
        read = reid.Gallery.read(tmp_path / "g.parquet")
        assert gallery.names == read.names == ["a\\xff", "b"]


def test_vectors_are_of_the_network_of_the_tables(
    network: reid.Extractor, dataset: Path, tmp_path: Path
) -> None:
    """What is added to bare vectors says which network they are of."""
    table = network.table(dataset / "query", layout="folder")
    gallery = reid.Gallery()
    gallery.add(network.extract(dataset / "query", layout="folder")[:1], ["bare"])
    gallery.add(table)
    gallery.write(tmp_path / "g.parquet")
    assert read_features(tmp_path / "g.parquet").model == table.model
    assert gallery.names == ["bare", *table.names]
