"""Slow, broken and hostile clients of the page of ``serve``: real sockets, no network.

The network is a function here; the server, the queue and the folder of uploads are the real ones.
"""

from __future__ import annotations

import ctypes
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.served import form
from tests.videos import write_video
from video_snl.errors import UserError
from video_snl.serve.app import make_app
from video_snl.serve.jobs import Jobs
from video_snl.serve.service import Answer, Limits, Service, check_video

uvicorn = pytest.importorskip("uvicorn", reason="the packages of the extra serve are absent")

PLACES = 2
LIMITS = Limits(megabytes=30, seconds=30, upload_seconds=4, stall_seconds=1)


@dataclass
class Page:
    """A page whose answers are the sizes of the files, and wait while ``held``."""

    port: int
    folder: Path
    sizes: list[int] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)

    def answer(self, files: Sequence[Path]) -> Answer:
        assert self.free.wait(60)
        self.sizes += [file.stat().st_size for file in files]
        return Answer(notes=[file.name for file in files])

    def post(self, body: bytes, **headers: str) -> tuple[int, str]:
        """The status, and the last line of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/ask", body, {"Content-Type": KIND, **headers})
        response = connection.getresponse()
        lines = response.read().decode().splitlines()
        connection.close()
        return response.status, lines[-1]

    def upload(self) -> socket.socket:
        """A whole upload whose answer is not yet waited for."""
        opened = self.half(LITTLE, len(LITTLE))
        assert b'"waiting"' in received(opened, b"waiting")
        return opened

    def half(self, start: bytes, length: int) -> socket.socket:
        """The beginning of an upload of ``length`` bytes."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        head = f"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\n"
        opened.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + start)
        return opened

    def empty(self, seconds: float) -> bool:
        """Tell whether nothing of any upload is left within a time."""
        return within(seconds, lambda: not list(self.folder.iterdir()))


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def received(opened: socket.socket, until: bytes | None = None) -> bytes:
    """Receive what comes, up to these bytes or the end."""
    found = b""
    while until is None or until not in found:
        part = opened.recv(65536)
        if not part:
            break
        found += part
    return found


def body_of(content: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.png"\r\n\r\n'
    return head + content + b"\r\n--b--\r\n"


KIND = "multipart/form-data; boundary=b"
LITTLE = body_of(b"little")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    listening = socket.create_server(("127.0.0.1", 0))
    made = Page(listening.getsockname()[1], tmp_path)
    made.free.set()
    service = Service(title="t", about="a", hint="h", accept="", answer=made.answer, several=True)
    jobs = Jobs(PLACES)
    app = make_app(service, LIMITS, jobs, tmp_path, ["localhost", "127.0.0.1"])
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    threads = [
        threading.Thread(target=jobs.run),
        threading.Thread(target=server.run, kwargs={"sockets": [listening]}),
    ]
    for thread in threads:
        thread.start()
    assert within(30, lambda: server.started)
    yield made
    made.free.set()
    jobs.end()
    server.should_exit = True
    for thread in threads:
        thread.join()
    listening.close()


def hang(path: str, max_pixels: int) -> float:
    ctypes.PyDLL(None).sleep(1000)
    return 0.0


def test_slow_clients_hold_no_place(page: Page) -> None:
    """A byte at a time, ten at once: others are answered at once, and the ten are given up."""
    slow = [page.half(LITTLE[:20], 10_000) for _ in range(10)]
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            for opened in slow:
                with suppress(OSError):
                    opened.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert within(5, lambda: len(list(page.folder.iterdir())) == 10)
        status, line = page.post(LITTLE)
        assert (status, json.loads(line)["state"]) == (200, "answered")
        assert page.empty(10)
        for opened in slow:
            with suppress(ConnectionError):  # closed while another byte was on its way
                assert b"408" in received(opened)
    finally:
        stop.set()
        dripping.join()
        for opened in slow:
            opened.close()


def test_an_upload_that_takes_too_long_is_given_up(page: Page) -> None:
    """The client never stalls, and would go on for minutes."""
    opened = page.half(LITTLE[:20], 10_000_000)
    began = time.monotonic()
    try:
        while time.monotonic() < began + 20:
            opened.sendall(bytes(400))
            time.sleep(0.1)
        raise AssertionError("it was never given up")
    except OSError:
        pass
    assert 3 < time.monotonic() - began < 15
    opened.close()
    assert page.empty(5)


def test_uploads_that_are_broken_off_leave_nothing(page: Page) -> None:
    for _ in range(2 * PLACES):
        page.half(LITTLE[:-20], len(LITTLE)).close()
    assert page.empty(5)
    assert page.post(LITTLE)[0] == 200


def test_who_no_longer_waits_gives_up_the_place(page: Page) -> None:
    page.free.clear()
    first, second = page.upload(), page.upload()
    assert page.post(LITTLE)[0] == 503
    second.close()
    assert within(10, lambda: len(list(page.folder.iterdir())) == 1)
    third = page.upload()
    page.free.set()
    for opened in (first, third):
        assert b"answered" in received(opened, b"answered")
        opened.close()
    assert page.sizes == [6, 6] and page.empty(5)


def test_others_are_answered_while_a_large_body_comes(page: Page) -> None:
    """Line ends, of which each may begin a boundary: the worst that a body can be."""
    answers: list[tuple[int, str]] = []
    content = b"\r" * 4_000_000 + bytes(range(256)) * 40_000
    large = threading.Thread(target=lambda: answers.append(page.post(body_of(content))))
    large.start()
    waited = []
    while large.is_alive() and len(waited) < 200:
        began = time.monotonic()
        connection = HTTPConnection("127.0.0.1", page.port, timeout=60)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        waited.append(time.monotonic() - began)
        time.sleep(0.02)
    large.join(120)
    assert [status for status, _ in answers] == [200] and page.sizes == [len(content)]
    assert max(waited) < 2
    assert page.empty(5)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://[::1"},
        {"Origin": "http://[x]:y"},
        {"Content-Type": f"{KIND}; charset=no-such"},
        {"Content-Type": f"{KIND}; charset=undefined"},
        {"Content-Type": f"{KIND}; charset=base64"},
        {"Content-Type": f"{KIND}; charset="},
        {"Content-Type": "multipart/form-data; boundary="},
        {"Content-Type": f"multipart/form-data; boundary={'b' * 5000}"},
    ],
)
def test_malformed_headers_are_bad_requests(page: Page, headers: dict[str, str]) -> None:
    status, line = page.post(LITTLE, **headers)
    assert status == 400 and json.loads(line)["state"] == "failed"
    assert page.empty(5) and page.post(LITTLE)[0] == 200


def test_several_files_and_other_fields(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    for name, content in (("a.png", b"1"), ("b.png", bytes(3_000_000)), ("c.png", b"")):
        (folder / name).write_bytes(content)
    boundary, body = form(*sorted(folder.iterdir()))
    other = f'--{boundary}\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n'
    kind = f"multipart/form-data; boundary={boundary}"
    status, line = page.post(other.encode() + body, **{"Content-Type": kind})
    assert status == 200 and json.loads(line)["notes"] == ["a.png", "b.png", "c.png"]
    assert page.sizes == [1, 3_000_000, 0]


@pytest.mark.parametrize("cut", [b"", LITTLE[:-10], LITTLE.replace(b"name=", b"nam=")])
def test_damaged_forms(page: Page, cut: bytes) -> None:
    status, _ = page.post(cut)
    assert status == 400 and page.empty(5)


def test_no_more_than_32_uploads_come_at_once(page: Page) -> None:
    """One more is refused; the page, and a place that becomes free, are there for others."""
    coming = [page.half(LITTLE[:-20], len(LITTLE)) for _ in range(32)]
    try:
        assert within(5, lambda: len(list(page.folder.iterdir())) == 32)
        assert page.post(LITTLE)[0] == 503
    finally:
        for opened in coming:
            opened.close()
    assert page.empty(5) and page.post(LITTLE)[0] == 200


def test_videos_of_too_many_pixels_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 3, (48, 64))
    check_video(path, 30, 20, 48 * 64)
    with pytest.raises(UserError, match="--max_pixels"):
        check_video(path, 30, 20, 48 * 64 - 1)


def test_a_video_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading process is killed: it waits in native code and keeps Python's lock."""
    monkeypatch.setattr("video_snl.serve.service._length", hang)
    path, began = write_video(tmp_path / "a.avi", 3), time.monotonic()
    with pytest.raises(UserError, match="took longer than 1 s"):
        check_video(path, 30, 1)
    assert time.monotonic() - began < 30
