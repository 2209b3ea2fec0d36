"""The command ``serve`` in a process of its own, asked as a browser would ask it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.tiny import environment

FOLDER = "video-snl-serve-*"


@dataclass
class Served:
    """A page that can be opened.

    Attributes:
        address: Such as ``http://127.0.0.1:43210``.
        temporary: The folder for temporary files of the process.
        said: The lines it has printed.
    """

    process: subprocess.Popen[str]
    address: str
    temporary: Path
    said: list[str]

    @classmethod
    def start(cls, temporary: Path, *words: str, module: str = "video_snl") -> Served:
        temporary.mkdir(parents=True)
        process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", "--port", "0", "--accelerator", "cpu", *words],
            stdout=subprocess.PIPE,
            stderr=(temporary.parent / f"{temporary.name}.stderr").open("w"),
            text=True,
            env=environment(TMPDIR=str(temporary), PYTHONUNBUFFERED="1"),
        )
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if found := re.search(r"page: (http://\S+)", line):
                return cls(process, found[1], temporary, said)
        raise AssertionError(f"ended with {process.wait()}: {said} {cls._errors(temporary)}")

    @staticmethod
    def _errors(temporary: Path) -> str:
        return (temporary.parent / f"{temporary.name}.stderr").read_text()

    @property
    def errors(self) -> str:
        return self._errors(self.temporary)

    def uploads(self) -> list[Path]:
        """The folders of uploads that are there."""
        [folder] = self.temporary.glob(FOLDER)
        return list(folder.iterdir())

    def connect(self) -> HTTPConnection:
        host, port = self.address.removeprefix("http://").rsplit(":", 1)
        return HTTPConnection(host, int(port), timeout=240)

    def ask(self, *files: Path, **headers: str) -> tuple[int, list[dict[str, Any]]]:
        """Upload files; the status and the lines of the answer."""
        boundary, body = form(*files)
        kind = f"multipart/form-data; boundary={boundary}"
        return self.post(body, **{"Content-Type": kind, **headers})

    def post(self, body: bytes, **headers: str) -> tuple[int, list[dict[str, Any]]]:
        connection = self.connect()
        connection.request("POST", "/ask", body, headers)
        response = connection.getresponse()
        lines = response.read().decode().splitlines()
        connection.close()
        return response.status, [json.loads(line) for line in lines]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code


def form(*files: Path) -> tuple[str, bytes]:
    """The boundary and the body of a form with these files."""
    boundary = uuid.uuid4().hex
    parts = []
    for file in files:
        head = f'Content-Disposition: form-data; name="file"; filename="{file.name}"'
        parts += [f"--{boundary}\r\n{head}\r\n\r\n".encode(), file.read_bytes(), b"\r\n"]
    return boundary, b"".join([*parts, f"--{boundary}--\r\n".encode()])
