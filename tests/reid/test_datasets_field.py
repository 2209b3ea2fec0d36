"""Market-1501, DukeMTMC-reID, MSMT17, DukeMTMC-VideoReID and LS-VID, on trees of their layouts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reid.config import ReidDataConfig, ReidExperiment
from reid.data.check import check, parts_of, unmatched_queries
from reid.data.datasets.base import Fault
from reid.data.datasets.catalog import DATASETS, load_dataset, read_dataset
from reid.data.tracklet import ReidData, Tracklet
from reid.options import check_options
from tests.reid import little
from tests.reid_trees import write_image
from tests.reid_trees_field import (
    LSVID_QUERIES,
    write_duke_video,
    write_dukemtmc,
    write_lsvid,
    write_market1501,
    write_mat73,
    write_msmt17,
)
from tests.tiny import environment
from video_snl.errors import OptionsError, UserError

WRITERS: dict[str, Callable[[Path], Path]] = {
    "market1501": write_market1501,
    "dukemtmc-reid": write_dukemtmc,
    "msmt17": write_msmt17,
    "dukemtmc-videoreid": write_duke_video,
    "ls-vid": write_lsvid,
}
IMAGES = ("market1501", "dukemtmc-reid", "msmt17")
EXPECTED = {
    "market1501": {
        "train": [(2, 0, 1), (2, 1, 1), (7, 0, 1), (7, 2, 1)],
        "query": [(3, 0, 1), (4, 5, 1)],
        "gallery": [(0, 1, 1), (3, 0, 1), (3, 2, 1), (4, 0, 1)],
        "junk": [(-1, 0, 1)],
    },
    "dukemtmc-reid": {
        "train": [(1, 1, 1), (1, 4, 1), (18, 0, 1), (18, 7, 1)],
        "query": [(5, 1, 1), (33, 0, 1)],
        "gallery": [(5, 1, 1), (5, 4, 1), (33, 5, 1), (2000, 3, 1)],
    },
    "msmt17": {
        "train": [(1, 0, 1), (1, 3, 1), (2, 0, 1), (2, 14, 1)],
        "query": [(3, 0, 1), (4, 6, 1)],
        "gallery": [(3, 0, 1), (3, 13, 1), (4, 1, 1)],
    },
    "dukemtmc-videoreid": {
        "train": [(1, 5, 3), (1, 1, 1), (18, 0, 2)],
        "query": [(5, 1, 2)],
        "gallery": [(5, 1, 2), (5, 4, 2), (2000, 3, 1)],
    },
    "ls-vid": {
        "train": [(1, 0, 3), (1, 10, 2), (2, 1, 12), (2, 1, 1)],
        "query": [(3, 2, 2), (4, 4, 3)],
        "gallery": [(3, 2, 1), (3, 14, 2), (4, 3, 1)],
    },
}


def keys(tracklets: list[Tracklet]) -> list[tuple[int, int, int]]:
    return [(t.person_id, t.camera_id, len(t.frames)) for t in tracklets]


def found(data: ReidData) -> dict[str, list[tuple[int, int, int]]]:
    return {name: keys(part) for name, part in parts_of(data).items()}


@pytest.mark.parametrize("name", WRITERS)
def test_small_trees(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = WRITERS[name](tmp_path / "data")
    data = load_dataset(name, root)
    assert (data.name, found(data)) == (name, EXPECTED[name])
    cameras = {camera for part in EXPECTED[name].values() for _, camera, _ in part}
    assert data.num_cameras == 1 + max(cameras)
    frames = [frame for part in parts_of(data).values() for t in part for frame in t.frames]
    assert all(Path(frame).is_file() for frame in frames)
    assert data == load_dataset(name, root)
    assert capsys.readouterr().err == ""
    assert DATASETS[name].single_images == all(len(t.frames) == 1 for t in data.train)
    assert unmatched_queries(data) == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("market1501", "Market-1501-v15.09.15"),
        ("dukemtmc-reid", "DukeMTMC-reID"),
        ("msmt17", "MSMT17_V1"),
        ("dukemtmc-videoreid", "DukeMTMC-VideoReID"),
        ("ls-vid", "LS-VID"),
    ],
)
def test_the_folder_of_the_archive_is_found(name: str, folder: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / folder)
    assert found(load_dataset(name, tmp_path)) == EXPECTED[name]


@pytest.mark.parametrize("name", WRITERS)
def test_no_such_layout(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="has no folder .*, it holds .notes.txt.: give .*into$"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize("name", ("market1501", "dukemtmc-reid", "msmt17"))
def test_lists_agree_with_torchreid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the order, which is that of an unsorted listing, and MSMT17's numbers."""
    from torchreid.reid.data.datasets.image import dukemtmcreid, market1501, msmt17

    kinds = {
        "market1501": (market1501.Market1501, "Market-1501-v15.09.15"),
        "dukemtmc-reid": (dukemtmcreid.DukeMTMCreID, "DukeMTMC-reID"),
        "msmt17": (msmt17.MSMT17, "MSMT17_V1"),
    }
    kind, folder = kinds[name]
    WRITERS[name](tmp_path / kind.dataset_dir / folder)
    theirs = kind(root=str(tmp_path), verbose=False, transform=str)
    ours = load_dataset(name, tmp_path / kind.dataset_dir)
    shift = 3 if name == "msmt17" else 0
    for part in ("query", "gallery"):
        rows = sorted((row[0], row[1] + shift, row[2]) for row in getattr(theirs, part))
        assert rows == sorted((t.path, t.person_id, t.camera_id) for t in getattr(ours, part))
    rows = sorted((row[0], row[2]) for row in theirs.train)
    assert rows == sorted((t.path, t.camera_id) for t in ours.train)


def test_names_and_places_that_do_not_belong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_market1501(tmp_path / "data")
    write_image(root / "query" / "-1_c3s1_000001_01.jpg")
    write_image(root / "bounding_box_test" / "portrait.jpg")
    faults: list[Fault] = []
    data = read_dataset("market1501", root, 0, faults.append)
    assert [(fault.kind, Path(fault.path).name) for fault in faults] == [
        ("mixed", "-1_c3s1_000001_01.jpg")
    ]
    assert found(data) == EXPECTED["market1501"]
    assert "image with another name (portrait.jpg)" in capsys.readouterr().err


def test_msmt17_with_blurred_faces(tmp_path: Path) -> None:
    data = load_dataset("msmt17", write_msmt17(tmp_path / "MSMT17_V2", version=2))
    assert found(data) == EXPECTED["msmt17"]
    assert data.query[0].path.endswith(
        "MSMT17_V2/mask_test_v2/0000/0000_000_01_0303morning_0015_0.jpg"
    )


@pytest.mark.parametrize(
    ("name", "list_", "line", "said"),
    [
        ("msmt17", "list_query.txt", "0000_000_01_x_1_0.jpg", "line 3: expected a path, a space"),
        ("msmt17", "list_query.txt", "a.jpg one", "line 3: expected a path"),
        ("msmt17", "list_gallery.txt", "0001/0001_0_x_1.jpg 1", "say camera none, expected one"),
        ("msmt17", "list_gallery.txt", "0001/0001_0_00_1.jpg 1", "say camera none, expected one"),
        ("msmt17", "list_train.txt", "0001/0001_0_01_1.jpg 7", "says that 0001/.* is of person 7"),
        ("ls-vid", "list_sequence/list_seq_test.txt", "tracklet_test/0009/0009_1 4", "no image"),
        ("ls-vid", "list_sequence/list_seq_train.txt", "\xff 3", "is not a list of files"),
    ],
)
def test_lines_of_lists_are_checked(
    name: str, list_: str, line: str, said: str, tmp_path: Path
) -> None:
    root = WRITERS[name](tmp_path / "data")
    with (root / list_).open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")
    with pytest.raises(UserError, match=said) as raised:
        load_dataset(name, root)
    assert list_ in str(raised.value) and "\n" not in str(raised.value)
    (root / list_).write_text("\n")
    with pytest.raises(UserError, match="lists no files"):
        load_dataset(name, root)
    (root / list_).unlink()
    with pytest.raises(UserError, match=f"{Path(list_).name} does not exist"):
        load_dataset(name, root)


def test_the_releases_of_lsvid_give_the_same_lists(tmp_path: Path) -> None:
    root = write_lsvid(tmp_path / "info", info="info")
    assert found(load_dataset("ls-vid", root)) == EXPECTED["ls-vid"]
    root = write_lsvid(tmp_path / "arrays")
    shutil.rmtree(root / "test" / "data")
    np.save(root / "test" / "query.npy", np.array(LSVID_QUERIES))
    assert found(load_dataset("ls-vid", root)) == EXPECTED["ls-vid"]
    root = write_lsvid(tmp_path / "matlab5")
    savemat(root / "test/data/info_test.mat", {"query": np.array([LSVID_QUERIES], np.uint16)})
    assert found(load_dataset("ls-vid", root)) == EXPECTED["ls-vid"]


def test_frames_of_lsvid_are_those_of_the_tracklet_in_the_order_of_time(tmp_path: Path) -> None:
    data = load_dataset("ls-vid", write_lsvid(tmp_path / "data"))
    names = [Path(frame).name for frame in data.train[2].frames]
    assert names == [f"0001_0001_02_{frame}.jpg" for frame in range(1, 13)]


def test_tracklets_without_images_and_of_two_cameras_are_named(tmp_path: Path) -> None:
    root = write_lsvid(tmp_path / "data")
    (root / "tracklet_test/0003/0003_0001_04_1.jpg").unlink()
    write_image(root / "tracklet_test/0002/0002_0002_04_9.jpg")
    with (root / "list_sequence" / "list_seq_test.txt").open("a") as lines:
        lines.write("tracklet_test/0002/0002_0002 0\n")  # a prefix of two tracklets
    faults: list[Fault] = []
    data = read_dataset("ls-vid", root, 0, faults.append)
    assert [fault.kind for fault in faults] == ["missing", "mixed"]
    assert "names tracklet_test/0003/0003_0001_04, of" in faults[0].detail
    assert "say camera 3, 4" in faults[1].detail
    assert len(data.gallery) == 2


@pytest.mark.parametrize(
    ("rows", "said"), [([1, 1], "holds a line twice"), ([6], "query 6 is none of the 5 lines")]
)
def test_queries_of_lsvid_are_checked(rows: list[int], said: str, tmp_path: Path) -> None:
    root = write_lsvid(tmp_path / "data")
    write_mat73(root / "test/data/info_test.mat", query=np.array([rows], float))
    with pytest.raises(UserError, match=said):
        load_dataset("ls-vid", root)
    (root / "test/data/info_test.mat").unlink()
    with pytest.raises(UserError, match="info_test.mat does not exist"):
        load_dataset("ls-vid", root)
    for content in (np.array([0.5]), np.array([np.inf]), np.array([{}], object)):
        np.save(root / "test" / "query.npy", content, allow_pickle=True)
        with pytest.raises(UserError, match="query.npy is not an array of"):
            load_dataset("ls-vid", root)


def test_mixed_and_empty_tracklets_of_duke(tmp_path: Path) -> None:
    root = write_duke_video(tmp_path / "data")
    write_image(root / "gallery/0005/0060/0005C2F0009X1.jpg")
    write_image(root / "gallery/2000/3000/2001_C4_F0009_X1.jpg")
    (root / "train/0001/0021").mkdir()
    faults: list[Fault] = []
    data = read_dataset("dukemtmc-videoreid", root, 0, faults.append)
    assert {(fault.kind, fault.path.removeprefix(f"{root}/")) for fault in faults} == {
        ("mixed", "gallery/0005/0060"),
        ("mixed", "gallery/2000/3000"),
        ("empty", "train/0001/0021"),
    }
    assert keys(data.gallery) == [(5, 1, 2)] and len(data.train) == 3


@pytest.mark.parametrize("name", WRITERS)
def test_check_compares_with_the_published_counts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = WRITERS[name](tmp_path / "data")
    config = ReidDataConfig(dataset=name, root=str(root), num_workers=0)
    assert check(config, as_json=True, num_workers=1) == 1
    report = json.loads(capsys.readouterr().out)
    assert set(report["counts"]) == {"counts"}
    published = DATASETS[name].published
    assert published is not None
    expected = []
    for part, counts in published.parts.items():
        rows = EXPECTED[name].get(part, [])
        people = {person for person, _, _ in rows} - {-1, 0}
        here = {
            "people": len(people),
            "cameras": len({camera for _, camera, _ in rows}),
            "tracklets": len(rows),
            "frames": sum(frames for _, _, frames in rows),
        }
        expected += [
            f"{part} has {number:,} {'identities' if what == 'people' else what}, published are "
            f"{getattr(counts, what):,}"
            for what, number in here.items()
            if getattr(counts, what) not in (None, number)
        ]
    assert len(expected) >= 5
    assert [problem["detail"] for problem in report["problems"]] == expected


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_trained_on_with_clips_of_one_frame(name: str) -> None:
    experiment = ReidExperiment()
    experiment.data.dataset = name
    with pytest.raises(OptionsError, match="data.frames=4: dataset .* set --data.frames 1"):
        check_options(experiment)
    experiment.data.frames = 1
    check_options(experiment)
    experiment.model.backbone, experiment.data.short_tracklets = "i3d_small", "repeat"
    with pytest.raises(OptionsError, match="model.backbone=i3d_small looks at clips"):
        check_options(experiment)


@pytest.mark.parametrize("name", WRITERS)
def test_the_commands_take_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = WRITERS[name](tmp_path / "data")
    frames = 1 if name in IMAGES else 2
    words = little.options(
        root, tmp_path / "runs", data__dataset=name, data__frames=frames, optimizer__epochs=1
    )
    done = little.run("train", *words)
    assert done.returncode == 0, done.stderr
    done = little.run("evaluate", "--dataset", name, "--root", str(root), "--json")
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    protocols = ["common", "official", "queries-kept"] if name == "ls-vid" else ["common"]
    assert numbers["data"]["name"] == name and list(numbers["rankings"]) == protocols
    assert numbers["rankings"]["common"]["queries_counted"] == len(EXPECTED[name]["query"])
    assert numbers["data"]["junk"] == len(EXPECTED[name].get("junk", []))


def test_a_network_of_clips_is_measured_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is the clip's only frame that counts, whatever the length of the clip."""
    monkeypatch.chdir(tmp_path)
    video = little.write_folder(tmp_path / "videos")
    done = little.run("train", *little.options(video, tmp_path / "runs", optimizer__epochs=1))
    assert done.returncode == 0, done.stderr
    root = write_market1501(tmp_path / "market")
    [run] = (tmp_path / "runs").iterdir()
    words = ["--dataset", "market1501", "--root", str(root), "--checkpoint", str(run), "--json"]
    found = []
    for more in ([], ["--data.frames", "1"]):
        done = little.run("evaluate", *words, *more)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["rankings"]["common"]["mAP"])
    assert found[0] == found[1]


def test_the_command_checks_a_copy(tmp_path: Path) -> None:
    root = write_market1501(tmp_path / "data")
    (root / "query" / "0003_c1s6_015971_00.jpg").write_bytes(b"no image")
    done = subprocess.run(
        [sys.executable, "-m", "reid", "check", "--dataset", "market1501", "--root", str(root)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 1, done.stderr
    assert "0003_c1s6_015971_00.jpg" in done.stdout
    assert "train has 2 identities, published are 751" in done.stdout
