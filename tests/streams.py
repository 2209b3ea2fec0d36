"""Streams for tests: the standard input, and a server that stops and starts."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_SERVER = Path(__file__).with_name("rtsp_server.py")
_SYSTEM_PYTHON = "/usr/bin/python3"


@contextmanager
def standard_input(content: bytes, seconds: float = 0) -> Iterator[None]:
    """Let this process read these bytes from a pipe as its standard input, spread over seconds."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)

    pieces = 100 if seconds else 1
    size = max(1, -(-len(content) // pieces))

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            try:
                for first in range(0, len(content), size):
                    pipe.write(content[first : first + size])
                    pipe.flush()
                    time.sleep(seconds / pieces)
            except BrokenPipeError:
                return  # the reader needs no more

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        thread.join()


class StreamServer(http.server.ThreadingHTTPServer):
    """HTTP on this machine: each connection sends the next of ``parts``, then stops or closes.

    A path that is a number is answered with this status; ``/page`` is no video. The answer says
    ``length``, where there is one, as its number of bytes.
    """

    daemon_threads = True

    def __init__(
        self, parts: Sequence[bytes] = (), *, stalls: bool = False, length: int | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.parts, self.stalls, self.ends = list(parts), stalls, threading.Event()
        self.length = length

    @property
    def address(self) -> str:
        return f"http://user:secret@127.0.0.1:{self.server_port}"

    def __enter__(self) -> StreamServer:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StreamServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        if name.isdigit():
            self.send_error(int(name))
            return
        if not self.server.parts and name != "page":
            self.send_error(503)
            return
        self.send_response(200)
        if self.server.length is not None:
            self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        content = b"<html>" * 1000 if name == "page" else self.server.parts.pop(0)
        try:
            self.wfile.write(content)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            return  # the client has gone
        if self.server.stalls and self.server.parts:
            self.server.ends.wait(60)


@contextmanager
def rtsp_server(user: str, password: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A camera's server at ``/camera``, and its port; skips where GStreamer is not there."""
    if not Path(_SYSTEM_PYTHON).exists():
        pytest.skip(f"no {_SYSTEM_PYTHON}, which would have GStreamer's bindings")
    process = subprocess.Popen(
        [_SYSTEM_PYTHON, str(_SERVER), user, password],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = process.stdout.readline()
        if not port:
            pytest.skip(
                "no RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
                f"gstreamer1.0-plugins-good gstreamer1.0-plugins-bad ({process.stderr.read()})"
            )
        yield process, int(port)
    finally:
        process.kill()
        process.communicate()
