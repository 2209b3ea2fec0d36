"""Files of folders: what is taken for a video, an image, or neither."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from video_snl.errors import UserError
from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    find_media,
    is_image_name,
    is_system_name,
    is_video_name,
)


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("name", ["a.TS", "a.m2ts", "12:30:0.mp4", "a.GIF", "b.MxF", "c.3gp"])
def test_suffixes_of_videos_in_any_letter_case(name: str) -> None:
    assert is_video_name(name)
    assert not is_image_name(name)


@pytest.mark.parametrize("name", ["._a.avi", ".DS_Store", "__MACOSX", "@eaDir", "Thumbs.db"])
def test_names_of_operating_systems(name: str) -> None:
    assert is_system_name(name)
    assert not is_video_name(name)


def test_everything_below_a_folder_is_taken_or_named(tmp_path: Path) -> None:
    _touch(tmp_path / "b/10.avi", tmp_path / "b/9.avi", tmp_path / "a.BMP", tmp_path / "notes.txt")
    _touch(tmp_path / "__MACOSX/b/._9.avi", tmp_path / "._a.BMP")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "itself").symlink_to("itself")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.avi"))
        media = find_media(tmp_path)
    assert media.videos == [tmp_path / "b/9.avi", tmp_path / "b/10.avi"]
    assert media.images == [tmp_path / "a.BMP"]
    assert {(entry.path.name, entry.reason) for entry in media.ignored} == {
        ("notes.txt", ".txt file"),
        ("pipe.mp4", "named pipe"),
        ("itself", "link that leads nowhere"),
        ("socket.avi", "socket"),
    }
    assert str(media.ignored_text()).startswith("ignored 4 entries: ")


def test_links_to_folders_are_read_once_and_never_upwards(tmp_path: Path) -> None:
    _touch(tmp_path / "root/z/a.avi", tmp_path / "elsewhere/c.avi", tmp_path / "beside/d.avi")
    root = tmp_path / "root"
    for name, target in {"a": "z", "b": "..", "c": "../elsewhere", "d": "../elsewhere"}.items():
        (root / name).symlink_to(target)
    (root / "z/up").symlink_to(root)
    media = find_media(root)
    assert media.videos == [root / "c/c.avi", root / "z/a.avi"]
    assert [entry.path.relative_to(root) for entry in media.ignored] == [
        Path("a"),
        Path("b"),
        Path("d"),
        Path("z/up"),
    ]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    _touch(tmp_path / "a.avi")
    with pytest.raises(UserError, match="is a file"):
        find_media(tmp_path / "a.avi")


def test_the_suffixes_of_the_pages_are_those_of_the_program() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    for page, suffixes in (("own-videos.md", VIDEO_SUFFIXES), ("images-data.md", IMAGE_SUFFIXES)):
        text = " ".join((docs / page).read_text(encoding="utf-8").split())
        assert " ".join(sorted(suffixes)) in text
