"""Files and URLs of weights: what is not a file of weights, what cannot be fetched."""

from __future__ import annotations

import http.server
import io
import os
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hara import randomize
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.errors import UserError
from video_snl.models.i3d import i3d_small
from video_snl.models.weights.loading import load_backbone_weights
from video_snl.models.weights.sources import fetch, locate, read_checkpoint


def save(content: object, folder: Path, name: str = "weights.pth") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


# ---- files that are not weights ----------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_files() -> list[bytes]:
    """A small checkpoint in torch.save's two formats."""
    content = {"epoch": 1, "state_dict": {f"layer{i}.weight": torch.ones(4) for i in range(9)}}
    files = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        files.append(buffer.getvalue())
    return files


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(zipped=st.booleans(), keep=st.floats(0, 1), damage=st.binary(max_size=4), at=st.integers(0))
def test_damaged_files_are_refused_in_words(
    tmp_path, whole_files, zipped: bool, keep: float, damage: bytes, at: int
) -> None:
    whole = bytearray(whole_files[0 if zipped else 1])
    start = at % len(whole)
    whole[start : start + len(damage)] = damage
    path = tmp_path / "damaged.pth"
    path.write_bytes(whole[: int(keep * (len(whole) - 1))])
    try:
        read_checkpoint(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)  # noqa: PT017
    else:
        # The last bytes of the older format are the last tensor's: cut or changed, it may load.
        assert not zipped


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", b"RIFF\0\0\0\0AVI LIST"])
def test_other_files_are_refused(tmp_path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"cannot be read.*\({len(content)} bytes"):
        read_checkpoint(path)


class _Code:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(tmp_path, zipped: bool) -> None:
    content = {"state_dict": {"a": torch.zeros(1)}, "x": _Code(tmp_path / "executed")}
    path = tmp_path / "code.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"run code to be read \(\S*mkdir\)"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_a_tensor_alone_is_no_checkpoint(tmp_path) -> None:
    source = save(torch.zeros(3), tmp_path)
    with pytest.raises(UserError, match="hold a Tensor"):
        read_checkpoint(Path(source))


def test_a_missing_file_and_a_folder(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no such file.*r3d50_K_200ep\.pth.*kenshohara"):
        locate(str(tmp_path / "none.pth"), "i3d_r50")
    with pytest.raises(UserError, match="is a folder"):
        locate(str(tmp_path), "i3d_r50")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path) -> None:
    path = Path(save({}, tmp_path))
    path.chmod(stat.S_IWUSR)
    with pytest.raises(UserError, match="may not be read"):
        read_checkpoint(path)


# ---- downloads ---------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """Serves ``files``; ``short.pth`` breaks off half-way, anything else is a 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            httpd.requests.append(self.path)
            body = httpd.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if "short" in self.path else body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the log out of the output of the tests."""

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files, httpd.requests = {}, []
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def address(server: http.server.ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_url_is_fetched_once(tmp_path, hub_cache, server, capfd) -> None:
    served = Path(save(randomize(i3d_small(5)).state_dict(), tmp_path)).read_bytes()
    server.files["/a/net.pth"] = served
    url, model = address(server, "/a/net.pth?download=1"), i3d_small(5)
    server.files["/a/net.pth?download=1"] = served
    for _ in range(2):
        report = load_backbone_weights(model, url, backbone="i3d_small", progress=True)
        assert report.matched_fraction == 1
    assert len(server.requests) == 1
    (cached,) = hub_cache.iterdir()
    assert cached.read_bytes() == served and cached.name.endswith("-net.pth")
    assert "100%" in capfd.readouterr().err
    # Another server's file of the same name is another file.
    assert locate(address(server, "/a/net.pth"), "i3d_small", progress=False) != cached


def test_the_cache_is_never_half_written(hub_cache, server) -> None:
    server.files["/net.pth"] = b"x" * (3 << 20)
    seen = []
    real = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append((self.stat().st_size, target.exists(), self.parent == target.parent))
        return real(self, target)

    with mock.patch.object(Path, "replace", watched):
        path = fetch(address(server, "/net.pth"), progress=False)
    assert seen == [(3 << 20, False, True)]
    assert path.read_bytes() == server.files["/net.pth"]


@pytest.mark.parametrize(
    ("path", "reason"), [("/none.pth", "404"), ("/short.pth", r"broke off after 500 of 1000")]
)
def test_failed_downloads_leave_nothing(hub_cache, server, path: str, reason: str) -> None:
    server.files["/short.pth"] = bytes(1000)
    url = address(server, path)
    with pytest.raises(UserError, match=rf"{url}.*{reason}.*put it at.*--model\.weights"):
        locate(url, "i3d_small", progress=False)
    assert list(hub_cache.iterdir()) == []


def test_offline_names_the_file_and_its_place(hub_cache, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/SLOW_8x8_R50.pyth"
    entry = replace(VIDEO_BACKBONES["slow_r50"], weights={"kinetics": url})
    monkeypatch.setitem(VIDEO_BACKBONES, "slow_r50", entry)
    with pytest.raises(UserError) as caught:
        load_backbone_weights(i3d_small(5), "kinetics", backbone="slow_r50", progress=False)
    assert url in str(caught.value) and str(hub_cache / "SLOW_8x8_R50.pyth") in str(caught.value)


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999999/a.pth", "http://[x/a.pth"])
def test_malformed_urls(hub_cache, monkeypatch, url: str) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match="cannot fetch"):
        locate(url, "i3d_small", progress=False)
