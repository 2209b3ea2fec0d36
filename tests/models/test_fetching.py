"""Files that are fetched once: from a real server, over connections that break off."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.hara import randomize
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.errors import UserError
from video_snl.models.i3d import i3d_small
from video_snl.models.weights import fetching
from video_snl.models.weights.fetching import fetch
from video_snl.models.weights.loading import load_backbone_weights
from video_snl.models.weights.sources import locate, read_checkpoint

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


class Server(http.server.ThreadingHTTPServer):
    """A server of ``files``, each (content, ETag or None); what is not there is a 404.

    Attributes:
        break_at: Bytes of each answer after which the connection breaks off.
        ranges: The ``Range`` header of each request.
        sized: Answers name their length.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, tuple[bytes, str | None]] = {}
        self.break_at: list[int | None] = []
        self.ranges: list[str | None] = []
        self.sized = True

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.path not in self.server.files:
            self.send_error(416 if self.path == "/never.pth" else 404)
            return
        content, tag = self.server.files[self.path]
        begin = 0
        if asked and self.headers.get("If-Range") == tag:
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if tag is not None:
            self.send_header("ETag", tag)
        if self.server.sized:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        stop = self.server.break_at.pop(0) if self.server.break_at else None
        self.wfile.write(content[begin:][:stop])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the log out of the output of the tests."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_a_url_is_fetched_once(tmp_path, cache, server, capfd) -> None:
    torch.save(randomize(i3d_small(5)).state_dict(), tmp_path / "net.pth")
    served = (tmp_path / "net.pth").read_bytes()
    server.files |= dict.fromkeys(["/a/net.pth?download=1", "/a/net.pth"], (served, None))
    url, model = server.address("/a/net.pth?download=1"), i3d_small(5)
    for _ in range(2):
        report = load_backbone_weights(model, url, backbone="i3d_small", progress=True)
        assert report.matched_fraction == 1
    assert len(server.ranges) == 1 and "100%" in capfd.readouterr().err
    [cached] = cache.glob("*-net.pth")
    assert cached.read_bytes() == served
    # Another address may have another file of the same name.
    assert locate(server.address("/a/net.pth"), "i3d_small", progress=False) != cached


@pytest.mark.parametrize("tag", ['"v1"', None])
def test_a_fetch_that_broke_off_ends_as_the_unbroken_one(cache, server, tag: str | None) -> None:
    server.files["/net.pth"], server.break_at = (CONTENT, tag), [1000, 500]
    url = server.address("/net.pth")
    for so_far in (1000, 1500) if tag else (1000, 500):
        with pytest.raises(UserError, match=f"broke off after {so_far} of {len(CONTENT)} bytes"):
            fetch(url, progress=False)
        assert not (cache / "net.pth").exists()
    assert fetch(url, progress=False).read_bytes() == CONTENT
    # Only what the server has a tag for is gone on with.
    wanted = [None, "bytes=1000-", "bytes=1500-"] if tag else [None] * 3
    assert server.ranges == wanted
    assert names(cache) == ["net.pth", "net.pth.fetched.json"]


@pytest.mark.parametrize("new", [CONTENT[::-1], CONTENT[:700]])
def test_a_file_that_changed_meanwhile_starts_again(cache, server, new: bytes) -> None:
    server.files["/net.pth"], server.break_at = (CONTENT, '"v1"'), [1000]
    with pytest.raises(UserError, match="broke off"):
        fetch(server.address("/net.pth"), progress=False)
    server.files["/net.pth"] = (new, '"v2"')
    assert fetch(server.address("/net.pth"), progress=False).read_bytes() == new


def test_a_server_whose_tag_outlives_its_file(cache, server) -> None:
    """A part that is longer than the file is dropped."""
    server.files["/net.pth"], server.break_at = (CONTENT, '"v1"'), [1000]
    with pytest.raises(UserError, match="broke off"):
        fetch(server.address("/net.pth"), progress=False)
    server.files["/net.pth"] = (CONTENT[:700], '"v1"')
    assert fetch(server.address("/net.pth"), progress=False).read_bytes() == CONTENT[:700]
    assert server.ranges == [None, "bytes=1000-", None]


def test_a_weak_tag_is_no_promise(cache, server) -> None:
    server.files["/net.pth"], server.break_at = (CONTENT, 'W/"v1"'), [1000]
    with pytest.raises(UserError, match="broke off"):
        fetch(server.address("/net.pth"), progress=False)
    assert fetch(server.address("/net.pth"), progress=False).read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_server_that_names_no_length(cache, server) -> None:
    server.files["/net.pth"], server.sized = (CONTENT, '"v1"'), False
    assert fetch(server.address("/net.pth"), progress=False).read_bytes() == CONTENT


def test_the_record_is_of_what_was_fetched(cache, server) -> None:
    server.files["/net.pth"] = (CONTENT, None)
    url = server.address("/net.pth")
    fetch(url, progress=False)
    record = json.loads((cache / "net.pth.fetched.json").read_text())
    assert record == {
        "url": url,
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }


def test_a_file_that_changed_in_the_cache_is_set_aside(cache, server) -> None:
    server.files["/net.pth"] = (CONTENT, None)
    url = server.address("/net.pth")
    path = fetch(url, progress=False)
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match=r"is not the file that was fetched before.*set-aside-1"):
        fetch(url, progress=False)
    assert (cache / "net.pth.set-aside-1").read_bytes() == CONTENT[:-1] + b"!"
    assert fetch(url, progress=False).read_bytes() == CONTENT and len(server.ranges) == 2


def saved(path: Path) -> bytes:
    torch.save({"weight": torch.ones(3)}, path)
    return path.read_bytes()


def test_what_is_no_file_of_weights_is_set_aside_and_fetched_anew(
    cache: Path, server: Server, tmp_path: Path
) -> None:
    good = saved(tmp_path / "good.pth")
    url = server.address("/net.pth")
    for content in (b"<html>try later</html>", b"", good[:-40]):
        server.files["/net.pth"] = (content, None)
        found = fetch(url, progress=False)
        with pytest.raises(UserError, match="is not used; give the command again to fetch it anew"):
            read_checkpoint(found)
        assert not found.exists()
    assert len(list(cache.glob("net.pth.set-aside-*[0-9]"))) == 3
    server.files["/net.pth"] = (good, None)
    assert read_checkpoint(fetch(url, progress=False))["weight"].tolist() == [1, 1, 1]
    # A file elsewhere is the user's: it stays where it is.
    (tmp_path / "own.pth").write_bytes(b"<html>")
    with pytest.raises(UserError, match="own.pth"):
        read_checkpoint(tmp_path / "own.pth")
    assert (tmp_path / "own.pth").exists()
    # So does one of another program in the same cache.
    (cache / "other.pth").write_bytes(b"<html>")
    with pytest.raises(UserError, match="other.pth"):
        read_checkpoint(cache / "other.pth")
    assert (cache / "other.pth").exists()


def test_a_wrong_file_put_there_by_hand_can_be_replaced(
    cache: Path, server: Server, tmp_path: Path
) -> None:
    url = server.address("/net.pth")
    (cache / "net.pth").write_bytes(b"<html>")
    with pytest.raises(UserError, match="is not used"):
        read_checkpoint(fetch(url, progress=False))
    (cache / "net.pth").write_bytes(saved(tmp_path / "good.pth"))
    assert read_checkpoint(fetch(url, progress=False))["weight"].tolist() == [1, 1, 1]
    assert server.ranges == []


def test_a_server_that_refuses_every_range(cache: Path, server: Server) -> None:
    with pytest.raises(UserError, match="416"):
        fetch(server.address("/never.pth"), progress=False)
    assert len(server.ranges) == 1


def test_digits_in_other_names_say_nothing(cache, server) -> None:
    server.files["/net-20240115.pth"] = (CONTENT, None)
    for _ in range(2):
        found = fetch(server.address("/net-20240115.pth"), progress=False)
        assert found == cache / "net-20240115.pth" and found.read_bytes() == CONTENT


@pytest.fixture
def publisher(server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is a publisher whose names hold digits."""
    monkeypatch.setattr(fetching, "_DIGITS_OF", (server.address("/"),))


@pytest.mark.usefixtures("publisher")
def test_what_a_publisher_does_not_name_is_set_aside(cache, server) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()[:8]
    server.files |= {f"/net-{right}.pth": (CONTENT, None), "/net-00000000.pth": (CONTENT, None)}
    assert fetch(server.address(f"/net-{right}.pth"), progress=False).is_file()
    for number in (1, 2):
        with pytest.raises(UserError, match=rf"begins with {right}, its name says 00000000"):
            fetch(server.address("/net-00000000.pth"), progress=False)
        assert (cache / f"net-00000000.pth.set-aside-{number}").read_bytes() == CONTENT
    assert not (cache / "net-00000000.pth").exists()


@pytest.mark.usefixtures("publisher")
def test_a_file_put_there_by_hand_is_checked_as_well(cache, server) -> None:
    (cache / "net-00000000.pth").write_bytes(CONTENT)
    with pytest.raises(UserError, match="is not what the publisher of .* names"):
        fetch(server.address("/net-00000000.pth"), progress=False)
    (cache / "net.pth").write_bytes(CONTENT)
    assert fetch(server.address("/net.pth"), progress=False).read_bytes() == CONTENT
    (cache / "net.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="is not the file that was put there before"):
        fetch(server.address("/net.pth"), progress=False)
    assert server.ranges == []


def test_a_damaged_record_is_said_and_made_anew(cache, server, capsys) -> None:
    server.files["/net.pth"] = (CONTENT, None)
    url = server.address("/net.pth")
    record = fetch(url, progress=False).with_name("net.pth.fetched.json")
    record.write_bytes(record.read_bytes()[:9])
    fetch(url, progress=False)
    assert f"{record} is damaged" in capsys.readouterr().err
    (cache / "net.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="is not the file"):
        fetch(url, progress=False)


def test_of_several_that_want_it_one_fetches(cache, server) -> None:
    server.files["/net.pth"] = (CONTENT * 300, '"v1"')
    url = server.address("/net.pth")
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(lambda _: fetch(url, progress=False), range(4)))
    assert len(server.ranges) == 1 and paths[0].read_bytes() == CONTENT * 300
    assert names(cache) == ["net.pth", "net.pth.fetched.json"]


def test_a_failed_fetch_leaves_nothing(cache, server) -> None:
    url = server.address("/none.pth")
    with pytest.raises(UserError, match=rf"{url}.*404.*put it at.*--model\.weights"):
        locate(url, "i3d_small", progress=False)
    assert names(cache) == []


def test_offline_names_the_file_and_its_place(cache, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/SLOW_8x8_R50.pyth"
    entry = replace(VIDEO_BACKBONES["slow_r50"], weights={"kinetics": url})
    monkeypatch.setitem(VIDEO_BACKBONES, "slow_r50", entry)
    with pytest.raises(UserError) as caught:
        load_backbone_weights(i3d_small(5), "kinetics", backbone="slow_r50", progress=False)
    assert url in str(caught.value) and str(cache / "SLOW_8x8_R50.pyth") in str(caught.value)


def test_a_cache_that_cannot_be_written_to(cache, server, monkeypatch) -> None:
    (cache / "file").touch()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(cache / "file"))
    server.files["/net.pth"] = (CONTENT, None)
    with pytest.raises(UserError, match="cannot fetch .*/net.pth .*put it at"):
        fetch(server.address("/net.pth"), progress=False)


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999999/a.pth", "http://[x/a.pth"])
def test_malformed_urls(cache, monkeypatch, url: str) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match="cannot fetch"):
        locate(url, "i3d_small", progress=False)
