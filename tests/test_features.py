"""``video-snl features`` as a user meets it: files of vectors, their parts, and the probe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.command_lines import refused
from tests.tiny import environment, only_run, run_here, tiny_options
from tests.videos import write_video
from video_snl.cli.main import main
from video_snl.commands.features import videos_named
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.data.video.file_lists import LabelledVideo
from video_snl.models.video import classifier_input
from video_snl.models.weights.loading import classifier
from video_snl.runs.feature_file import FeatureParts
from video_snl.runs.features import FeatureTable, read_features, write_features
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import load_trained


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network of clips of 4 frames, 32 x 32 pixels."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *tiny_options(root, output, optimizer__epochs=1)]) == 0
    return only_run(output)


@pytest.fixture(scope="module")
def words(run: Path) -> list[str]:
    options = ["--accelerator", "cpu", "--num_workers", "1", "--clips", "2", "--crops", "1"]
    return ["features", "--checkpoint", str(run), *options]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Videos of two classes, of other greys, divided into train and test."""
    folder = tmp_path / "tree"
    for name, grey in (("dark", 40), ("light", 200)):
        for part, count in (("train", 4), ("test", 2)):
            for number in range(count):
                write_grey(folder / part / name / f"{number}.avi", grey + 4 * number)
    return folder


def write_grey(path: Path, grey: int, frames: int = 8) -> Path:
    """A video of one grey, of 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            image = np.full((48, 64, 3), grey, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def test_rows_are_what_the_classifier_gets(words: list[str], tree: Path, run: Path) -> None:
    target = tree.parent / "f.parquet"
    done = run_here(*words, str(tree), "-o", str(target))
    assert done.returncode == 0, done.stderr
    assert "24 vectors" in done.stdout and "2 classes" in done.stdout
    table = pq.read_table(target)
    trained = load_trained(checkpoint_path(str(run)))
    layer = trained.model.get_submodule(classifier(trained.model))
    size = layer.in_features
    assert table.schema.field("feature").type == pa.list_(pa.float32(), size)
    columns = ["path", "clip", "start", "end", "label", "split", "feature", "bytes", "changed"]
    assert table.column_names == columns
    rows = table.to_pylist()
    videos = sorted(tree.rglob("*.avi"))
    assert [row["path"] for row in rows] == [str(path) for path in videos for _ in range(2)]
    assert [row["clip"] for row in rows] == [0, 1] * len(videos)
    for row in rows:
        part, label, _ = Path(row["path"]).relative_to(tree).parts
        assert (row["split"], row["label"]) == (part, label)
    # Clips of 4 of 8 frames: the first and the last ones.
    times = [(row["start"], row["end"]) for row in rows]
    assert times[:2] == [pytest.approx((0, 0.16)), pytest.approx((0.16, 0.32))]
    # The classifier makes of a row what the network makes of a clip of the same grey.
    mean, std = (torch.tensor(values)[:, None, None, None] for values in trained.statistics)
    for row, path in zip(rows[::2], videos, strict=True):
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        clip = torch.from_numpy(np.stack(frames[:4])).permute(3, 0, 1, 2)[..., :32, :32] / 255
        with torch.inference_mode():
            expected = trained.model(((clip - mean) / std)[None])[0]
            found = layer(torch.tensor(row["feature"]))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    about = json.loads(table.schema.metadata[b"video_snl"])
    assert about["clips"] == 2 and about["per"] == "clip" and about["unreadable"] == []
    assert len(about["sha256"]) == 64 and about["input"]["clip_frames"] == 4


def test_npz_and_vectors_of_videos(words: list[str], tree: Path) -> None:
    clips, videos = tree.parent / "clips.npz", tree.parent / "videos.parquet"
    assert run_here(*words, str(tree), "-o", str(clips)).returncode == 0
    assert run_here(*words, "--per", "video", str(tree), "-o", str(videos)).returncode == 0
    stored, table = np.load(clips), read_features(videos)
    assert stored["feature"].dtype == np.float32 and stored["label"].tolist()[0] == "dark"
    expected = stored["feature"].reshape(len(table), 2, -1).mean(1)
    np.testing.assert_allclose(table.features, expected, rtol=1e-6)
    assert set(table.clips.tolist()) == {-1}
    assert pq.read_table(videos)["clip"].null_count == len(table) == 12
    np.testing.assert_allclose(table.times, np.tile([0, 0.32], (12, 1)))
    same = read_features(clips)
    assert np.array_equal(same.features, stored["feature"])
    assert same.labels == stored["label"].tolist() and same.about["per"] == "clip"


@pytest.mark.parametrize("name", ["i3d_small", "x3d_xs", "r3d_18", "s3d"])
def test_input_of_every_kind_of_classifier(name: str) -> None:
    """The heads are linear: the mean of their results is the result of the mean."""
    torch.manual_seed(0)
    model = VIDEO_BACKBONES[name].build(5).eval()
    frames, side, _ = VIDEO_BACKBONES[name].smallest_clip
    clips = torch.randn(1, 3, max(frames, 4), max(side, 64), max(side, 64))
    layer = model.get_submodule(classifier(model))
    with torch.inference_mode():
        features = classifier_input(model)(clips)
        shape = (..., None, None, None) if isinstance(layer, torch.nn.Conv3d) else (...,)
        found = layer(features[shape]).flatten(1)
        torch.testing.assert_close(found, model(clips), rtol=1e-4, atol=1e-5)


def test_labels_are_the_folders_that_videos_are_below(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", frames=4)

    def listed(*names: str) -> list[tuple[str, str | None, str | None]]:
        folder = tmp_path / f"tree{len(list(tmp_path.iterdir()))}"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip, folder / name)
        videos = videos_named([str(folder)])
        return [(str(Path(v.path).relative_to(folder)), v.label, v.part) for v in videos]

    assert listed("jump/a.avi", "jump/deep/b.avi", "c.avi") == [
        ("c.avi", None, None),
        ("jump/a.avi", "jump", None),
        ("jump/deep/b.avi", "jump", None),
    ]
    assert listed("train/jump/a.avi", "test/jump/b.avi", "test/c.avi", "other/d.avi") == [
        ("other/d.avi", None, None),
        ("test/c.avi", None, "test"),
        ("test/jump/b.avi", "jump", "test"),
        ("train/jump/a.avi", "jump", "train"),
    ]
    assert videos_named([str(clip), str(clip)]) == [LabelledVideo(str(clip))]
    [deep] = [v for v in videos_named([str(tmp_path / "tree1")]) if "deep" in v.path]
    assert deep.group == "deep"  # a folder in that of a class is a recording


def test_lists_of_datasets(root: Path, tmp_path: Path) -> None:
    videos = videos_named([str(root)])  # UCF-101's layout, without an option
    assert len(videos) == 33 and {video.part for video in videos} == {"train", "test"}
    assert sum(video.part == "test" for video in videos) == 21
    assert {video.label for video in videos} == {"Bow", "Clap", "Dive"}
    table = tmp_path / "a.csv"
    table.write_text("path,label,split\na.avi,jump,train\ngone/b.avi,run,test\n")
    assert videos_named([str(table)]) == [
        LabelledVideo(str(tmp_path / "a.avi"), "jump", "train"),
        LabelledVideo(str(tmp_path / "gone" / "b.avi"), "run", "test"),
    ]


def test_what_cannot_be_read_is_named_and_can_come_later(words: list[str], tree: Path) -> None:
    target, empty = tree.parent / "f.parquet", tree / "train" / "dark" / "empty.avi"
    empty.touch()
    command = [*words, str(tree), "-o", str(target)]
    done = run_here(*command)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert str(empty) in line and "could not be read and are not in it: 1" in done.stdout
    table = read_features(target)
    assert len(set(table.paths)) == 12 and table.about["unreadable"] == [str(empty)]
    assert not (tree.parent / "f.parquet.parts").exists()
    # Repaired, it alone is computed; so is a video that was changed.
    write_grey(empty, 90)
    changed = write_grey(tree / "test" / "dark" / "0.avi", 250)
    later = target.stat().st_mtime + 5
    os.utime(changed, (later, later))
    done = run_here(*command)
    assert done.returncode == 0 and "11 of 13 videos are computed already" in done.stderr
    again = read_features(target)
    assert len(set(again.paths)) == 13 and again.about["unreadable"] == []
    rows = {path: table.features[list(table.paths).index(path)] for path in set(table.paths)}
    for path, row in rows.items():
        same = np.array_equal(again.features[list(again.paths).index(path)], row)
        assert same == (path != str(changed)), path


def test_file_of_other_settings_or_videos_is_refused(
    words: list[str], tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tree.parent / "f.parquet"
    command = [*words, "-o", str(target)]
    assert run_here(*command, str(tree)).returncode == 0
    before = target.read_bytes()
    line = refused(main, [*command, str(tree), "--clips", "3"], capsys)
    assert "--clips 2, not 3" in line and "--force" in line
    line = refused(main, [*command, str(tree), "--short_videos", "wrap"], capsys)
    assert "short_videos error, not wrap" in line
    line = refused(main, [*command, str(tree / "train")], capsys)
    assert "4 videos that are not asked for now" in line and "--force" in line
    assert target.read_bytes() == before
    done = run_here(*command, str(tree / "train"), "--force")  # the same features, fewer videos
    assert done.returncode == 0 and "8 of 8 videos are computed already" in done.stderr
    assert run_here(*command, str(tree), "--clips", "3", "--force").returncode == 0
    assert len(read_features(target)) == 36
    target.write_bytes(before[:-9])
    line = refused(main, [*command, str(tree)], capsys)
    assert f"{target} cannot be read" in line and "--force" in line
    pq.write_table(pa.table({"a": [1]}), target)
    assert "does not hold features" in refused(main, [*command, str(tree)], capsys)
    assert run_here(*command, str(tree), "--force").returncode == 0
    assert target.read_bytes() == before


@pytest.mark.slow  # that a command goes on after it stopped half-way, unreadable videos show, too
@pytest.mark.timeout(200)
def test_interrupted_command_goes_on(words: list[str], tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", frames=12)
    for number in range(60):
        copy = tmp_path / "videos" / "a" / f"{number}.avi"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, copy)
    target = tmp_path / "f.parquet"
    command = [*words, "--clips", "4", str(tmp_path / "videos"), "-o", str(target)]
    code = (
        "import video_snl.runs.feature_file as files\n"
        "from video_snl.cli.main import main\n"
        f"files._PART_VIDEOS = 4\nraise SystemExit(main({command!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environment()
    )
    parts, end = tmp_path / "f.parquet.parts", time.monotonic() + 120
    while not list(parts.glob("part-*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "the same command goes on" in said and not target.exists()
    computed = sum(len(read_features(path)) for path in parts.glob("part-*")) // 4
    assert 4 <= computed < 60
    done = run_here(*command)
    assert done.returncode == 0 and f"{computed} of 60 videos are computed already" in done.stderr
    assert not parts.exists()
    assert run_here(*command[:-1], str(tmp_path / "whole.parquet")).returncode == 0
    assert target.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_two_commands_do_not_write_one_file(
    words: list[str], tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tree.parent / "f.parquet"
    with FeatureParts(target).alone():
        line = refused(main, [*words, str(tree), "-o", str(target)], capsys)
    assert "another command writes" in line and str(os.getpid()) in line
    assert not target.exists() and not FeatureParts(target).folder.exists()


def test_probe(words: list[str], tree: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    (tree / "test" / "light" / "empty.avi").touch()
    target, reports = tree.parent / "f.npz", tree.parent / "f-probe"
    command = [*words, str(tree), "-o", str(target), "--probe"]
    done = run_here(*command)
    assert done.returncode == 2
    assert f"reports: {reports}" in done.stdout and "16 vectors of 8 videos" in done.stdout
    metrics = json.loads((reports / "metrics.json").read_text())
    assert metrics["videos"] == 5 and metrics["unreadable_count"] == 1
    assert metrics["probe"]["C"] == 0.01 and metrics["views"] == "2 clips x 1 crop"
    # By hand: fitted on the vectors of train, probabilities of a video averaged.
    stored = np.load(target)
    train, label = stored["split"] == "train", stored["label"]
    scaler = StandardScaler().fit(stored["feature"][train].astype(float))
    model = LogisticRegression(C=0.01, max_iter=5000)
    model.fit(scaler.transform(stored["feature"][train].astype(float)), label[train])
    scores = model.predict_proba(scaler.transform(stored["feature"][~train].astype(float)))
    scores, expected = scores.reshape(4, 2, 2).mean(1), label[~train][::2]
    right = int((model.classes_[scores.argmax(1)] == expected).sum())
    assert right >= 3  # the greys are far apart
    assert metrics["video_top1"] == pytest.approx(right / 5)
    low, high = metrics["video_top1_interval"]
    assert low < metrics["video_top1"] < high or right == 5
    rows = (reports / "predictions.csv").read_text().splitlines()
    assert rows[0] == "video,true class,video prediction,video score"
    written = {Path(row.split(",")[0]): row.split(",")[-1] for row in rows[1:]}
    paths = stored["path"][~train][::2]
    for path, row in zip(paths.tolist(), scores.max(1), strict=True):
        assert float(written[Path(path)]) == pytest.approx(row, abs=1e-4)
    for name in ("per_class_video.csv", "confusion_video.csv", "confusion_video.png"):
        assert (reports / name).stat().st_size > 0
    # The features are there: at once, with other options of the probe.
    elsewhere = str(tree.parent / "reports")
    before = target.stat().st_mtime_ns
    more = ["--unreadable", "skip", "--probe_c", "1", "--probe_output", elsewhere]
    assert run_here(*command, *more).returncode == 2
    assert target.stat().st_mtime_ns == before
    metrics = json.loads((Path(elsewhere) / "metrics.json").read_text())
    assert metrics["videos"] == 4 and metrics["probe"]["C"] == 1


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_probe_of_a_file_needs_no_network(
    words: list[str], tree: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "test" / "light" / "empty.avi").touch()
    target, reports = tree.parent / f"f{suffix}", tree.parent / "f-probe"
    made = run_here(*words, str(tree), "-o", str(target), "--probe")
    first = json.loads((reports / "metrics.json").read_text())
    rows = (reports / "predictions.csv").read_text()
    shutil.rmtree(reports)
    shutil.rmtree(tree)  # neither the videos nor a network are looked at
    before = target.read_bytes()
    done = run_here("features", str(target), "--probe")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(made.stdout.splitlines(keepends=True)[-4:])
    again = json.loads((reports / "metrics.json").read_text())
    assert first.pop("division") == {
        "rule": "given",
        "by": "the folders train/ and test/",
        "file": None,
    }
    assert again.pop("division")["by"] == f"the column split of {target}"
    assert again == first and again["unreadable_count"] == 1
    assert (reports / "predictions.csv").read_text() == rows
    assert target.read_bytes() == before
    elsewhere = tree.parent / "reports"
    more = ["--unreadable", "skip", "--probe_c", "1", "--probe_output", str(elsewhere)]
    assert run_here("features", str(target), "--probe", *more).returncode == 0
    metrics = json.loads((elsewhere / "metrics.json").read_text())
    assert metrics["videos"] == 4 and metrics["probe"]["C"] == 1
    # What is for making features is refused, and so is a file without --probe.
    for option in (
        ["--pretrained", "x3d_xs"],
        ["-o", str(target)],
        ["--clips", "2"],
        ["--force"],
        ["--data.split", "1"],
    ):
        line = refused(main, ["features", str(target), "--probe", *option], capsys)
        assert f"{option[0]} is for making them" in line
    assert "add --probe" in refused(main, ["features", str(target)], capsys)


def stored_table(labels: list[str | None], parts: list[str | None]) -> FeatureTable:
    count = len(labels)
    about = {"network": "n", "weights": "w", "sha256": "0", "clips": 1, "crops": 1, "per": "video"}
    return FeatureTable(
        paths=[f"{number}.avi" for number in range(count)],
        clips=np.full(count, -1, dtype=np.int32),
        times=np.full((count, 2), np.nan),
        labels=labels,
        parts=parts,
        features=np.eye(count, 8, dtype=np.float32),
        about={**about, "unreadable": ["gone.avi"]},
    )


def test_probe_of_a_file_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.npz"
    words = ["features", str(path), "--probe"]
    assert "is not a file" in refused(main, words, capsys)
    labels: list[str | None] = ["a", "b", "a", "b"]
    parts: list[str | None] = ["train", "train", "test", "test"]
    write_features(path, stored_table([None] * 4, parts))
    line = refused(main, words, capsys)
    assert f"{path} holds no labels" in line and "--data.root" in line
    write_features(path, stored_table(labels, [None] * 4))
    line = refused(main, words, capsys)
    assert f"{path} holds no split" in line and "--data.root" in line
    write_features(path, stored_table(labels, ["train"] * 4))
    assert "all are for train" in refused(main, words, capsys)
    path.write_bytes(path.read_bytes()[:-50])
    line = refused(main, words, capsys)
    assert "cannot be read" in line and "--force" not in line
    write_features(path, replace(stored_table(labels, parts), about={"per": "clip"}))
    assert "does not say its network" in refused(main, words, capsys)
    for odd in ({"unreadable": 5}, {"unreadable_labels": ["B"]}, {"clips": "x"}):
        table = stored_table(labels, parts)
        write_features(path, replace(table, about={**table.about, **odd}))
        assert "settings of other types" in refused(main, words, capsys)
    table = stored_table(labels, parts)
    contradiction = {"unreadable": [table.paths[0]], "unreadable_labels": [["a", "train"]]}
    write_features(path, replace(table, about={**table.about, **contradiction}))
    assert "and holds features of it" in refused(main, words, capsys)
    write_features(path, stored_table(labels, parts))
    arrays = dict(np.load(path))
    for features in (
        np.array([["a"] * 8] * 4),
        np.zeros((4, 0), np.float32),
        np.ones((4, 8), "c8"),
    ):
        np.savez(path, **(arrays | {"feature": features}))
        assert "cannot be read (4 paths" in refused(main, words, capsys)
    assert [each.name for each in tmp_path.iterdir()] == ["f.npz"]
    # One of before the labels of unreadable videos were kept.
    write_features(path, stored_table(labels, parts))
    assert main(words) == 0
    assert "leaves out 1 video that could not be read" in capsys.readouterr().err


def test_probe_divides_what_is_not_divided(words: list[str], tree: Path) -> None:
    target = tree.parent / "f.parquet"
    done = run_here(*words, str(tree / "train"), "-o", str(target), "--probe")
    assert done.returncode == 0, done.stderr
    assert "divided as train does it" in done.stderr
    assert "2 test videos of 2 classes" in done.stdout  # the last of four of each class
    assert pq.read_table(target)["split"].to_pylist().count("test") == 4  # two clips of each
    reports = tree.parent / "f-probe"
    metrics = json.loads((reports / "metrics.json").read_text())
    assert metrics["division"] == {"rule": "file", "by": "no recordings are known", "file": None}
    rows = (reports / "predictions.csv").read_text()
    # The file alone is divided in the same way.
    again = run_here("features", str(target), "--probe")
    assert again.returncode == 0, again.stderr
    assert (reports / "predictions.csv").read_text() == rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "name videos or folders of them, or a dataset by --data.root"),
        (("{tree}", "--data.root", "{tree}"), "give one of them"),
        (("--data.root", "nowhere"), "nowhere does not exist"),
        (("--data.root", "{tree}/test/dark/0.avi"), "is a video"),
        (("--data.colour", "red"), "unknown option --data.colour: the nearest is --data.root"),
        (("{tree}", "-o", "f.csv"), "f.csv: give a file that ends in .parquet or .npz"),
        (("{tree}", "--pretrained", "x3d_xs"), "give one of the two"),
        (("{tree}", "--num_workers", "0"), "--num_workers must be at least 1"),
        (("{tree}", "--clips", "0"), "--clips must be at least 1"),
        (("{tree}", "--probe", "--probe_c", "0"), "--probe_c 0.0: give a number above 0"),
        (("{tree}/test/dark", "--probe"), "--probe needs labels"),
        (("{tree}/half", "--probe"), "all are for train: add a folder test/"),
        (("{tree}/one", "--probe"), "there is one alone: dark"),
    ],
)
def test_bad_options(
    words: list[str],
    tree: Path,
    given: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(tree / "train", tree / "half" / "train")
    shutil.copytree(tree / "train" / "dark", tree / "one" / "dark")
    output = [] if "-o" in given else ["-o", str(tree.parent / "f.parquet")]
    words = [*words, *(word.format(tree=tree) for word in given), *output]
    assert message in refused(main, words, capsys)
    assert not list(tree.parent.glob("f.*"))


def test_run_of_images_is_refused(
    tmp_path: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.tiny_images import image_options

    assert main(["train", *image_options(tmp_path / "runs", optimizer__epochs=1)]) == 0
    capsys.readouterr()
    run = str(only_run(tmp_path / "runs"))
    words = ["features", "--checkpoint", run, str(tree), "-o", str(tmp_path / "f.npz")]
    assert "holds a network of images" in refused(main, words, capsys)
