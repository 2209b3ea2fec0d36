"""Own videos that do not say what tests: whole recordings do, of every class, from names alone."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.test_own_videos import one_line, touch
from tests.tiny import REPOSITORY, run_here
from tests.videos import write_lines
from video_snl.config.video import DataConfig, Experiment
from video_snl.data.video.catalog import class_count, load_videos
from video_snl.data.video.csv_lists import load_csv
from video_snl.data.video.division import (
    Recorded,
    divide_by_group,
    group_of_name,
    read_split,
    split_table,
    write_split,
)
from video_snl.data.video.folders import load_folder
from video_snl.data.video.records import VideoSet
from video_snl.errors import UserError

# Of each class: the sizes of its recordings, which no other class has.
RECORDINGS = st.dictionaries(
    st.text("abcé", min_size=1, max_size=3),
    st.dictionaries(st.text("xyz0", min_size=1, max_size=3), st.integers(1, 6), max_size=8),
    max_size=4,
)


def listed(classes: dict[str, dict[str, int]]) -> list[Recorded]:
    return [
        Recorded(f"{label}/{group}/{i}.avi", label, f"{label}/{group}")
        for label, groups in classes.items()
        for group, size in groups.items()
        for i in range(size)
    ]


def chosen(root: Path, videos: VideoSet) -> list[str]:
    return [video.path.removeprefix(f"{root}/") for video in videos.test]


@given(RECORDINGS, st.randoms(use_true_random=False))
def test_recordings_are_whole_and_every_class_is_tested(classes, random) -> None:
    videos = listed(classes)
    train, test = divide_by_group(videos)
    assert sorted(train + test) == sorted(videos)
    assert not {video.group for video in train} & {video.group for video in test}
    for label, groups in classes.items():
        sides = [sum(video.label == label for video in part) for part in (train, test)]
        assert bool(sides[0]) == bool(groups) and bool(sides[1]) == (len(groups) > 1)
        sizes = sorted(groups.values())
        if sizes and sides[1] > 0.25 * sum(sizes):  # where the smallest is too large
            assert sides[1] == sizes[0]
    random.shuffle(videos)
    assert sorted(divide_by_group(videos)[1]) == sorted(test)
    # Nor does the division of a class depend on the others.
    alone = [divide_by_group(listed({label: classes[label]}))[1] for label in classes]
    assert sorted(sum(alone, [])) == sorted(test)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12345678")), max_size=60))
def test_recordings_of_several_classes_are_in_one_part(pairs: list[tuple[str, str]]) -> None:
    videos = [Recorded(f"{i}.avi", label, group) for i, (label, group) in enumerate(pairs)]
    train, test = divide_by_group(videos)
    assert not {video.group for video in train} & {video.group for video in test}
    assert {video.label for video in train} == {video.label for video in videos}


def test_a_quarter_at_most_tests_where_the_recordings_are_small() -> None:
    sizes: dict[int, int] = {}
    for count in range(2, 60):
        train, test = divide_by_group([Recorded(f"{i}.avi", "a", None) for i in range(count)])
        assert len(train) + len(test) == count
        sizes[count] = len(test)
    assert sizes[2] == sizes[3] == sizes[4] == sizes[5] == 1
    assert all(0.14 <= test / count <= 0.25 for count, test in sizes.items() if count > 3)
    assert all(test / count >= 0.2 for count, test in sizes.items() if count % 5 == 0)


def test_one_large_recording_does_not_test() -> None:
    for name in "abcdefgh":  # whichever comes first
        train, test = divide_by_group(listed({name: {"large": 90, "small": 5, "tiny": 4}}))
        assert {video.group for video in train} == {f"{name}/large"} and len(test) == 9


def test_the_division_of_these_names_stays() -> None:
    """Another one would test networks on videos that they were trained on."""
    names = [f"v_Lunges_g{group:02d}_c{clip:02d}.avi" for group in range(1, 26) for clip in (1, 2)]
    videos = [Recorded(f"/data/Lunges/{n}", "Lunges", group_of_name(n)) for n in names]
    test = {video.group for video in divide_by_group(videos)[1]}
    assert test == {f"v_Lunges_g{number:02d}" for number in (4, 13, 17, 18, 20)}
    files = [Recorded(f"/any/where/{i}.mp4", "jump", None) for i in range(12)]
    assert [v.path for v in divide_by_group(files)[1]] == [f"/any/where/{i}.mp4" for i in (1, 4, 8)]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("UCF-101/JumpingJack/v_JumpingJack_g08_c01.avi", "v_JumpingJack_g08"),
        ("a_g1_c2_flipped.mp4", "a_g1"),
        ("g3_c1.avi", "g3"),
        ("v_JumpingJack_g08.avi", None),
        ("dog8_c1.avi", None),
        ("g08_c01/a.avi", None),
    ],
)
def test_recordings_in_names(name: str, group: str | None) -> None:
    assert group_of_name(name) == group


def recordings(root: Path) -> Path:
    """Class folders with folders of recordings, and a file beside them."""
    for label in ("jump", "run"):
        touch(root, *(f"{label}/r{i}/{clip}.avi" for i in range(5) for clip in "ab"))
    return touch(root, "run/alone.avi")


def test_folders_in_class_folders_are_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = touch(recordings(tmp_path / "own"), "run/r1/more/c.avi", "run/empty/notes.txt")
    videos = load_folder(root, split_by="group")
    said = capsys.readouterr().err
    assert "folder in a recording's folder (more)" in said and "without videos" in said
    assert len(videos.train) + len(videos.test) == 21
    sides = defaultdict(set)
    for part in ("train", "test"):
        for video in getattr(videos, part):
            sides[video.path.split("/")[-2]].add(part)
    # r0 of both classes is one recording.
    assert sides.pop("run") and all(len(found) == 1 for found in sides.values())
    assert {video.label for video in videos.test} == {0, 1}
    assert videos == load_videos(DataConfig("folder", root=str(root), split_by="group"))
    text = split_table(videos)
    assert text is not None and "of 1 file no recording is known" in text
    assert any(line.split() == ["jump", "8", "2", "4", "+", "1"] for line in text.splitlines())
    # The old rule sees the files in the class folders alone.
    with pytest.raises(UserError, match="jump has no videos"):
        load_folder(root)


def test_the_parts_that_a_user_made_stay(tmp_path: Path) -> None:
    names = [f"{part}/a/{i}.avi" for part in ("train", "test") for i in range(3)]
    root = touch(tmp_path, *names, "train/b/rec/0.avi", "test/b/1.avi")
    videos = load_folder(root, split_by="group")
    assert chosen(root, videos) == ["test/a/0.avi", "test/a/1.avi", "test/a/2.avi", "test/b/1.avi"]
    assert len(videos.train) == 4
    assert "split: given by the folders train/ and test/" in str(split_table(videos))


def test_the_folder_above_the_one_that_was_meant(tmp_path: Path) -> None:
    touch(tmp_path, *(f"own/{name}/{i}.avi" for name in ("jump", "run") for i in range(2)))
    with pytest.raises(UserError, match=r"1 class folder, 'own'.*jump, run.*--data.root .*/own"):
        load_folder(tmp_path, split_by="group")
    with pytest.raises(UserError, match="folders of folders of videos.*--data.dataset folder"):
        load_videos(DataConfig(root=str(tmp_path)))


def test_classes_of_one_recording_are_said(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/r/1.avi", "a/r/2.avi", *(f"b/{i}.avi" for i in range(4)))
    videos = load_folder(root, split_by="group")
    assert {video.label for video in videos.test} == {1}
    text = str(split_table(videos))
    assert "1 class without test videos" in text and text.endswith("measures: a")
    # Of one recording each, they are divided by file.
    root = touch(tmp_path / "two", *(f"{name}/r{name}/{i}.avi" for name in "ab" for i in range(4)))
    videos = load_folder(root, split_by="group")
    assert Counter(video.label for video in videos.test) == {0: 1, 1: 1}
    text = str(split_table(videos))
    assert "split: by file, no class has a second recording" in text and "Beware" in text
    with pytest.raises(UserError, match="no class has more than 1 video"):
        load_folder(touch(tmp_path / "one", "a/1.avi", "b/2.avi"), split_by="group")


def test_the_column_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recordings of a table may show several classes; its split column wins."""
    root = touch(tmp_path, *(f"{i}.avi" for i in range(20)))
    lines = [f"{i}.avi,{'ab'[i % 2]},s{i // 4}" for i in range(20)]
    videos = load_csv(write_lines(root / "l.csv", ["path,label,group", *lines]), split_by="group")
    assert len(videos.test) == 4 and len({int(v[:-4]) // 4 for v in chosen(root, videos)}) == 1
    assert "by recording (the column group)" in str(split_table(videos))
    # Without it, or with the old rule, by file.
    old = load_csv(root / "l.csv")
    assert chosen(root, old) == ["16.avi", "8.avi"] + ["17.avi", "9.avi"]
    rows = [f"{line},{'train' if i < 18 else 'test'}" for i, line in enumerate(lines)]
    given = load_csv(write_lines(root / "s.csv", ["path,label,group,split", *rows]))
    assert chosen(root, given) == ["18.avi", "19.avi"]
    assert "1 group with both train and test videos" in capsys.readouterr().err
    write_lines(root / "w.csv", ["path,label,group", "0.avi,a,", "1.avi,a"])
    with pytest.raises(UserError, match="line 3: the group is missing"):
        load_csv(root / "w.csv")


def test_files_that_a_table_may_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = touch(tmp_path, *(f"{i}.avi" for i in range(10)))
    lines = ["path,label", *(f"{i}.avi,{'ab'[i % 2]}" for i in range(13))]
    config = DataConfig("csv", root=str(write_lines(root / "l.csv", lines)), split_by="group")
    videos = load_videos(config)
    assert len(videos.train) + len(videos.test) == 13  # unreadable ones are replaced when met
    said = capsys.readouterr().err
    assert "3 files of 13 do not exist" in said and "line 12: " in said and "12.avi" in said
    for name in ("9.avi", "7.avi", "8.avi", "6.avi", "5.avi"):
        (root / name).unlink()
    with pytest.raises(UserError) as caught:
        load_videos(config)
    for word in ("line 7: ", "5.avi does not exist", "column path: 8 of 13", "max_failures=0.05"):
        assert word in str(caught.value)
    with pytest.raises(UserError, match="lets none pass"):
        load_videos(DataConfig("csv", root=config.root, max_failures=0.0))
    write_lines(root / "l.csv", ["path,label", "x.avi,a", "y.avi,b"])
    with pytest.raises(UserError, match="column path: 2 of 2 .*all of them"):
        load_videos(config)
    lines = ["path,label", "0.avi,a", "1.avi,a", "x.avi,b", "y.avi,b"]
    write_lines(root / "l.csv", lines)
    with pytest.raises(UserError, match="line 4: .*all train videos of class 'b'"):
        load_videos(config)


def test_names_of_classes_that_do_not_match_are_compared(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/jump/1.avi", "train/run/1.avi", "test/jumps/2.avi")
    with pytest.raises(UserError, match="'jumps' has test.*'jump' has train videos alone"):
        load_folder(root, split_by="group")


def test_what_a_run_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = recordings(tmp_path / "own")
    videos = load_folder(root, split_by="group")
    write_split(videos, tmp_path / "split.csv")
    stored = read_split(tmp_path / "split.csv")
    assert stored is not None and read_split(tmp_path / "no.csv") is None
    assert load_folder(root, split_by="group", stored=stored) == videos
    # The file is a table of the dataset where it is copied there.
    shutil.copyfile(tmp_path / "split.csv", root / "split.csv")
    assert load_csv(root / "split.csv") == videos
    capsys.readouterr()
    touch(root, "run/r9/0.avi", "aim/0.avi", "aim/1.avi")
    [gone] = [video.path for video in videos.train if video.path.endswith("alone.avi")] or [
        videos.train[0].path
    ]
    Path(gone).unlink()
    after = load_folder(root, split_by="group", stored=stored)
    assert after.class_names == ["jump", "run"] and after.test == videos.test
    assert [v for v in videos.train if v.path != gone] == after.train
    said = capsys.readouterr().err
    assert "3 videos not in it and left out: aim/0.avi" in said
    assert "1 video in it and gone" in said
    with pytest.raises(UserError, match=r"none of the 21 videos of .*split\.csv"):
        load_folder(
            touch(tmp_path, "x/a/1.avi", "x/b/2.avi") / "x", split_by="group", stored=stored
        )
    for text in ("path,label\na,b\n", "", "path,label,split,group\na,b,val,\n"):
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(UserError, match=r"split\.csv is not the list"):
            read_split(tmp_path / "split.csv")


def test_many_classes_make_no_long_table(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"c{n:03d}/{i}.avi" for n in range(60) for i in range(2 + n % 2)))
    text = str(split_table(load_folder(root, split_by="group")))
    assert len(text.splitlines()) < 50 and "60 classes, 150 videos" in text
    assert "by file, no recordings are known" in text


def test_stored_experiments_of_before_keep_every_fifth(tmp_path: Path) -> None:
    """Runs, checkpoints and published folders that do not name the rule."""
    root = touch(tmp_path, *(f"{name}/{i}.avi" for name in "ab" for i in range(6)))
    stored = Experiment(data=DataConfig("folder", root=str(root))).to_dict()
    assert stored["data"].pop("split_by") == "group"
    old = Experiment.from_dict(stored)
    assert old.data.split_by == "fifth" and "split_by" not in stored["data"]
    videos = load_videos(old.data)
    assert chosen(root, videos) == ["a/4.avi", "b/4.avi"]
    assert class_count(old.data) == 2
    new = Experiment.from_dict(Experiment().to_dict())
    assert new.data.split_by == "group"


@pytest.mark.parametrize(
    ("text", "words", "rule"),
    [
        (None, [], "group"),
        ("optimizer: {epochs: 3}", [], "group"),
        ("data: {crop: 64}", [], "fifth"),
        ("data: {crop: 64}", ["--data.split_by", "group"], "group"),
        ("data: {crop: 64, split_by: group}", [], "group"),
        ("data.root: x", [], "fifth"),
        ("data: {split_by: fifth}", ["--data.crop", "32"], "fifth"),
    ],
)
def test_configurations_of_before_keep_every_fifth(
    tmp_path: Path, text: str | None, words: list[str], rule: str
) -> None:
    if text is not None:
        words = ["--config", str(write_lines(tmp_path / "c.yaml", [text])), *words]
    done = run_here("describe", *words, "--print_config")
    assert done.returncode == 0 and f"split_by: {rule}" in done.stdout, done.stderr
    if text is not None and text.startswith("data: "):
        section = str(write_lines(tmp_path / "d.yaml", [text.removeprefix("data: ")]))
        done = run_here("describe", "--data", section, *words[2:], "--print_config")
        assert f"split_by: {rule}" in done.stdout, done.stderr


@pytest.mark.parametrize("files", [["a/1.avi", "a/2.avi"], ["a/1.avi", "b/n.txt"], ["1.avi"]])
def test_bad_folders_are_one_line_and_leave_nothing(tmp_path: Path, files: list[str]) -> None:
    root = touch(tmp_path / "own", *files)
    words = ["--data.root", str(root), "--trainer.output", str(tmp_path / "runs")]
    done = run_here(
        "train", "--config", str(REPOSITORY / "configs/finetune/x3d_xs_none.yaml"), *words
    )
    one_line(done, "class")
    assert not (tmp_path / "runs").exists()


def test_real_recordings_are_those_of_ucf101(real_data: Path) -> None:
    root = real_data / "ucf5" / "UCF-101"
    videos = load_videos(DataConfig("folder", root=str(root), split_by="group"))
    of = {part: Counter(v.label for v in getattr(videos, part)) for part in ("train", "test")}
    for label in range(5):
        assert 0.2 <= of["test"][label] / (of["train"][label] + of["test"][label]) <= 0.25
    groups = [{group_of_name(v.path) for v in part} for part in (videos.train, videos.test)]
    assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 125
