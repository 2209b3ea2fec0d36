"""Folders and lists of users' own videos: every habit works or is one clear line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import unicodedata
from pathlib import Path

import pytest

from tests.image_trees import write_folders
from tests.tiny import command, environment, only_run, record, run_here, tiny_options
from tests.videos import write_lines, write_ucf101, write_video
from video_snl.config.image import ImageDataConfig
from video_snl.config.video import DataConfig
from video_snl.data.image.catalog import load_images
from video_snl.data.image.folders import load_class_folders
from video_snl.data.video.catalog import load_videos, resolve_dataset
from video_snl.data.video.csv_lists import load_csv
from video_snl.data.video.file_lists import list_files
from video_snl.data.video.folders import load_folder
from video_snl.data.video.ucf101 import load_ucf101
from video_snl.errors import UserError
from video_snl.utils.media import named_media

STRANGE = b"caf\xe9.avi"
CLUTTER = ("._1.avi", ".DS_Store", "Thumbs.db", "notes.txt", "@eaDir/1.avi", "__MACOSX/._1.avi")


@pytest.fixture()
def cases(real_data: Path) -> Path:
    folder = real_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def own_videos(root: Path, classes: tuple[str, ...] = ("jump", "run"), each: int = 4) -> Path:
    """A folder of class folders with real videos."""
    clip = write_video(root / "clip.avi", 6)
    for name in classes:
        (root / name).mkdir()
        for number in range(each):
            shutil.copyfile(clip, root / name / f"{number}.avi")
    clip.unlink()
    return root


def one_line(done: subprocess.CompletedProcess[str], word: str) -> None:
    assert done.returncode == 2, (done.stdout, done.stderr)
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and word in errors[0], done.stderr
    assert "Traceback" not in done.stderr


def with_links(case: Path, real_data: Path, place: Path) -> Path:
    """A CSV file of the cases beside links to its class folders."""
    for folder in (real_data / "ucf5" / "UCF-101").iterdir():
        (place / folder.name).symlink_to(folder)
    return Path(shutil.copyfile(case, place / case.name))


def test_clutter_is_passed_over_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = touch(tmp_path, *(f"{name}/{i}.TS" for name in "ab" for i in range(3)), "list.txt")
    touch(tmp_path, *(f"a/{name}" for name in CLUTTER), "__MACOSX/a/._1.avi", "@eaDir/1.avi")
    os.mkfifo(root / "a/pipe.mp4")
    (root / "a/itself.avi").symlink_to("itself.avi")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "a/socket.avi"))
        videos = load_folder(root)
        said = capsys.readouterr().err
        listing = list_files(root, "folder")
        predicted = named_media([root], "videos", "predict")
    used = sorted(video.path for video in videos.train + videos.test)
    assert used == sorted(listing.present) == sorted(map(str, predicted))
    assert len(used) == 6 and videos.class_names == ["a", "b"]
    for text in (said, listing.ignored, capsys.readouterr().err):
        for word in ("named pipe", "socket", "leads nowhere", "notes.txt", "list.txt"):
            assert word in text
        assert "DS_Store" not in text and "Thumbs" not in text


@pytest.mark.parametrize("suffix", [".ts", ".M2TS", ".vob", ".3gp", ".OGV", ".flv", ".mxf", ".gif"])
def test_one_list_of_suffixes(tmp_path: Path, suffix: str) -> None:
    root = touch(tmp_path, *(f"a/{i}{suffix}" for i in range(2)))
    assert len(load_folder(root).train) == 1
    assert len(list_files(root, "folder").present) == 2
    assert len(named_media([root], "videos", "predict")) == 2


def test_a_file_that_is_named_is_tried_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.unknown", "b.avi")
    assert named_media([tmp_path / "a.unknown"], "videos", "predict") == [tmp_path / "a.unknown"]
    assert named_media([tmp_path], "videos", "predict") == [tmp_path / "b.avi"]


def test_training_counts_folders_in_class_folders_as_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, "a/1.avi", "a/2.avi", "b/1.avi", "b/2.avi", "a/old/3.avi")
    videos = load_folder(root)
    assert len(videos.train) + len(videos.test) == 4
    [said] = capsys.readouterr().err.splitlines()
    assert "ignored 1 entry" in said and "folder in a class folder" in said and "old" in said
    assert len(list_files(root, "folder").present) == 5  # check looks into all folders below


def test_a_pipe_by_name_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.avi")
    for path, word in ((tmp_path / "a.avi", "named pipe"), (tmp_path / "no", "no such file")):
        with pytest.raises(UserError, match=word):
            named_media([path], "videos", "predict")


def test_images_are_no_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "a.avi", "b.jpg")
    assert len(named_media([tmp_path], "videos", "predict")) == 1
    assert "b.jpg" in capsys.readouterr().err
    (tmp_path / "a.avi").unlink()
    with pytest.raises(UserError, match="no videos.*b.jpg"):
        named_media([tmp_path], "videos", "predict")


UNREADABLE = """
import os, sys
from video_snl.data.video.folders import load_folder
from video_snl.data.video.file_lists import list_files
from pathlib import Path
os.setgid(65534)
os.setuid(65534)
root = Path(sys.argv[1])
print(load_folder(root).class_names, len(list_files(root, "folder").present))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes another user's rights")
def test_a_folder_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root = touch(Path(folder), *(f"{name}/{i}.avi" for name in "abc" for i in range(2)))
        root.chmod(0o755)
        (root / "b").chmod(0)
        words = [command()[0], "-c", UNREADABLE, str(root)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
        assert done.stdout.strip() == "['a', 'c'] 4", done.stderr
        assert "cannot be read" in done.stderr and "(b)" in done.stderr
        for name in "ac":
            (root / name).chmod(0)
        done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
        assert "UserError" in done.stderr and "cannot be read" in done.stderr


def test_labels_are_one_for_all_that_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nfc = "Épée"
    nfd = unicodedata.normalize("NFD", nfc)
    root = touch(tmp_path, f"train/{nfc}/1.avi", f"test/{nfd}/2.avi", "train/b/1.avi")
    touch(tmp_path, "train/b /2.avi")
    videos = load_folder(root)
    assert videos.class_names == ["b", nfc]
    assert [video.label for video in videos.test] == [1] and len(videos.train) == 3
    assert capsys.readouterr().err.count("labels that differ") == 1


def test_labels_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path)
    (root / "test/cat").rename(root / "test/cat ")
    (root / "train/__MACOSX").mkdir()
    data = load_images(ImageDataConfig(dataset="folder", root=str(root), height=32, width=32))
    assert data.class_names == ["cat", "dog"] and len(data.test) == 4


def test_trailing_space(
    cases: Path, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = with_links(cases / "video/trailing_space.csv", real_data, tmp_path)
    assert load_csv(table).class_names == ["JumpingJack", "Lunges"]
    assert capsys.readouterr().err.count("'Lunges '") == 1


def test_a_line_break_in_a_label(cases: Path, real_data: Path, tmp_path: Path) -> None:
    table = with_links(cases / "hostile/label_newline.csv", real_data, tmp_path)
    with pytest.raises(UserError, match="line 3: .*line break") as caught:
        load_csv(table)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="line break"):
        load_folder(touch(tmp_path / "own", "a\nb/1.avi", "a\nb/2.avi"))


@pytest.mark.parametrize(
    "path", ["x" * 5000, "y/" * 3000 + "a.avi", "a\0.avi", "z" * 200_000], ids=lambda p: str(len(p))
)
def test_names_that_no_file_has(tmp_path: Path, path: str) -> None:
    touch(tmp_path, "a.avi")
    table = write_lines(tmp_path / "list.csv", ["path,label", "a.avi,x", f"{path},x"])
    with pytest.raises(UserError) as caught:
        load_csv(table)
    assert len(str(caught.value)) < 1000
    done = run_here("check", "--root", str(table), "--num_workers", "1")
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["classInd.txt", "trainlist01.txt"])
def test_ucf101_lists_in_other_encodings(tmp_path: Path, name: str) -> None:
    root = write_ucf101(tmp_path / "ucf", classes=("Bow", "Épée"))
    file = root / "ucfTrainTestlist" / name
    text = file.read_bytes().decode()
    expected = load_ucf101(root, 1)
    file.write_bytes(text.encode("utf-16"))
    assert load_ucf101(root, 1) == expected
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"line \d+: .*UTF-8"):
        load_ucf101(root, 1)
    one_line(run_here("check", "--root", str(root)), "UTF-8")


def test_a_folder_of_class_folders_is_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, *(f"own/{name}/{i}.avi" for name in "ab" for i in range(2))) / "own"
    before = sorted(root.rglob("*"))
    assert load_videos(DataConfig(root=str(root))).class_names == ["a", "b"]
    assert resolve_dataset(DataConfig(root=str(root))).dataset == "folder"
    assert "--data.dataset folder" in capsys.readouterr().err
    assert sorted(root.rglob("*")) == before
    split = touch(tmp_path / "split", "train/a/1.avi", "train/b/1.avi", "test/a/2.avi")
    assert resolve_dataset(DataConfig(root=str(split))).dataset == "folder"
    table = write_lines(tmp_path / "list.csv", ["path,label", "own/a/0.avi,x", "own/a/1.avi,x"])
    assert resolve_dataset(DataConfig(root=str(table))).dataset == "csv"
    ucf = write_ucf101(tmp_path / "ucf")
    assert resolve_dataset(DataConfig(root=str(ucf))).dataset == "ucf101"


def test_what_was_named_stays_what_it_is(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"own/{name}/{i}.avi" for name in "ab" for i in range(2))) / "own"
    with pytest.raises(UserError, match="--data.dataset folder"):
        load_videos(DataConfig("ucf101", root=str(root)))
    with pytest.raises(UserError, match="--data.dataset folder"):
        load_videos(DataConfig("csv", root=str(root)))
    with pytest.raises(UserError, match="--data.dataset ucf101"):
        load_videos(DataConfig("folder", root=str(write_ucf101(tmp_path / "ucf"))))


def test_the_sample_goes_into_no_folder_of_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, "thesis.txt")
    with pytest.raises(UserError, match="--data.dataset") as caught:
        load_videos(DataConfig(root=str(root)))
    assert "remove" not in str(caught.value)
    assert [path.name for path in root.iterdir()] == ["thesis.txt"]
    touch(tmp_path / "made", "sample.json")
    for place in ("made", "new"):
        config = DataConfig(root=str(tmp_path / place))
        assert resolve_dataset(config) == config
        # A folder whose name was mistyped trains no generated videos in silence.
        said = capsys.readouterr().err
        assert said.count("sample dataset") == (place == "new"), said


def test_a_video_or_the_folder_of_one_class_as_root_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "jump/a.avi", "jump/b.avi") / "jump"
    for place in (root, root / "a.avi"):
        with pytest.raises(UserError, match=r"video.*above the class folders"):
            load_videos(DataConfig(root=str(place)))


def test_a_folder_given_without_its_option_names_the_option() -> None:
    one_line(run_here("check", "my_videos"), "--root FOLDER")
    one_line(run_here("train", "my_videos"), "--data.root FOLDER")


def test_training_on_own_videos_with_strange_names(tmp_path: Path) -> None:
    """Recognised, trained, evaluated and predicted, with names that are not UTF-8."""
    root = own_videos(tmp_path / "own")
    os.rename(root / "run", os.fsencode(root) + b"/l\xe4uft")
    folder = Path(os.fsdecode(os.fsencode(root) + b"/l\xe4uft"))
    (folder / "3.avi").rename(folder / os.fsdecode(STRANGE))
    options = tiny_options(root, tmp_path / "runs", optimizer__epochs=1)
    assert options[0] == "--data.dataset"
    options = [*options[2:], "--data.split_by", "fifth"]
    done = run_here("train", *options)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path / "runs")
    assert run.name.startswith("own-")
    assert b"l\xe4uft/" + STRANGE + b",l\\udce4uft,test,\n" in (run / "split.csv").read_bytes()
    assert "taken for a folder of class folders" in done.stderr
    assert record(run)["status"] == "finished"
    assert "dataset: folder" in (run / "config.yaml").read_text()
    done = run_here("evaluate", "--checkpoint", str(run), "--clips", "1", "--crops", "1")
    assert done.returncode == 0, done.stderr
    assert "caf" in (run / "evaluation" / "predictions.csv").read_text(encoding="utf-8")
    done = run_here("predict", str(root), "--checkpoint", str(run), "--json")
    assert done.returncode == 0, done.stderr
    names = {os.path.basename(found["video"]) for found in json.loads(done.stdout)}
    assert os.fsdecode(STRANGE) in names and len(names) == 5
    # Rows to test alone, of one of its classes.
    lines = ["path,label,split", *(f"own/jump/{i}.avi,jump ,test" for i in range(3))]
    table = write_lines(tmp_path / "tests.csv", lines)
    words = ("--data.dataset", "csv", "--data.root", str(table), "--clips", "1", "--crops", "1")
    done = run_here("evaluate", "--checkpoint", str(run), *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 test videos of 2 classes, epoch ")  # there are no splits
    assert json.loads((run / "evaluation" / "metrics.json").read_text())["split"] == 1
    done = run_here("train", *tiny_options(table, tmp_path / "no", data__dataset="csv"))
    one_line(done, "evaluate")
    write_lines(tmp_path / "tests.csv", [lines[0], "own/jump/0.avi,fly,test"])
    one_line(run_here("evaluate", "--checkpoint", str(run), *words), "fly")


def test_one_class_is_refused_before_work_starts(
    cases: Path, real_data: Path, tmp_path: Path
) -> None:
    table = with_links(cases / "video/w_one.csv", real_data, tmp_path)
    done = run_here("train", *tiny_options(table, tmp_path / "runs", data__dataset="csv"))
    one_line(done, "1 class")
    assert not (tmp_path / "runs").exists()


def test_a_last_batch_of_one_is_told_before_work_starts(root: Path, tmp_path: Path) -> None:
    """Twelve videos in batches of eleven; 32 pixels shrink to one position, 64 do not."""
    options = tiny_options(root, tmp_path / "runs", optimizer__batch_size=11)
    one_line(run_here("train", *options), "batch_size")
    assert not (tmp_path / "runs").exists()
    larger = {"data__short_side": 64, "data__crop": 64, "optimizer__epochs": 1}
    options = tiny_options(root, tmp_path / "runs", optimizer__batch_size=11, **larger)
    done = run_here("train", *options)
    assert done.returncode == 0, done.stderr


def test_links_bring_no_images_of_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{part}/{c}/{i}.png" for part in ("train", "test") for c in "ab" for i in (1, 2)]
    root = touch(tmp_path, *names, "train/loose.png")
    for number, name in enumerate(names):  # files of their own
        (root / name).write_bytes(str(number).encode())
    (root / "train/a/loop").symlink_to("..")
    (root / "train/b/again").symlink_to("own")
    (root / "train/b/own").mkdir()
    (root / "train/b/own/3.png").write_bytes(b"3")
    (root / "train/c").symlink_to("/mnt/absent")
    train, _, classes = load_class_folders(root, ("test",))
    assert classes == ["a", "b"]
    below = [path.removeprefix(f"{root}/") for path in train.paths]
    found = sorted(zip(below, train.labels, strict=True))
    expected = [("train/a/1.png", 0), ("train/a/2.png", 0), ("train/b/1.png", 1)]
    assert found == [*expected, ("train/b/2.png", 1), ("train/b/own/3.png", 1)]
    said = capsys.readouterr().err
    assert "2 x link to a folder that is read by another name (loop, again)" in said
    assert "1 x link that leads nowhere (c)" in said
    assert "1 x image beside class folders (loose.png)" in said


def test_labels_of_images_are_merged_over_both_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(tmp_path, "train/caf\u00e9/1.png", "test/cafe\u0301/2.png")
    (root / "train/caf\u00e9/1.png").write_bytes(b"1")
    assert load_class_folders(root, ("test",))[2] == ["caf\u00e9"]
    assert "Unicode form" in capsys.readouterr().err


def test_class_folders_of_images_are_told_from_videos(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/b/4.jpg")
    with pytest.raises(UserError, match=r"class folders of images.*docs/images\.md"):
        load_videos(resolve_dataset(DataConfig(root=str(root))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,label\na.mp4,x,y\n", "line 1: expected the header"),
        (f"path,label\n{'a' * 200_000}.mp4,x\n", "line 2: it is not a row of a CSV file"),
    ],
    ids=["a column twice", "a field without end"],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load_videos(DataConfig("csv", root=str(tmp_path / "list.csv")))
