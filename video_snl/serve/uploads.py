"""Uploaded files, received within a limit and stored under names that can do no harm."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path, PurePosixPath

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from video_snl.errors import UserError
from video_snl.serve.service import Limits

__all__ = ["MOST_FILES", "TooLarge", "UploadRequest", "safe_name", "too_large"]

MOST_FILES = 1000
_OVERHEAD = 1024 * MOST_FILES  # bytes of a form that are not its files'
_STEM, _SUFFIX = 60, 10  # characters kept of a name, which may take four bytes each


class TooLarge(UserError):
    """An upload is over the limit."""


class UploadRequest(Request):
    """A request whose body is refused as soon as it is longer than the limit."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        super().__init__(scope, self._receive_noted)
        self._limits = limits
        self._inner, self._complete = receive, False

    async def _receive_noted(self) -> Message:
        message = await self._inner()
        self._complete = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Receive and drop the rest of the body: browsers read no answer while they still send."""
        while not self._complete:
            await self._receive_noted()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        received = 0
        async with aclosing(super().stream()) as chunks:
            async for chunk in chunks:
                received += len(chunk)
                if received > self._limits.bytes + _OVERHEAD:
                    raise too_large(self._limits)
                yield chunk

    async def store(self, folder: Path) -> list[Path]:
        """The files of the form, stored in the order in which they came.

        Raises:
            TooLarge: Together they are over the limit.
            UserError: There is no file.
            HTTPException: The body is no form, or has too many parts.
        """
        self.check_declared()
        async with self.form(max_files=MOST_FILES, max_fields=1) as form:
            files = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
            files = [part for part in files if part.filename]
            if not files:
                raise UserError("no file was uploaded: choose one first")
            if sum(part.size or 0 for part in files) > self._limits.bytes:
                raise too_large(self._limits)
            return await run_in_threadpool(_store, files, folder)

    def check_declared(self) -> None:
        """Refuse by the length that the request says it has, before any of it is read."""
        declared = self.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limits.bytes + _OVERHEAD:
            raise too_large(self._limits)


def too_large(limits: Limits) -> TooLarge:
    """What is said of it."""
    return TooLarge(
        f"the upload is larger than the {limits.megabytes:g} MB that are allowed: choose a smaller "
        "file (or start the page with a larger --max_size)"
    )


def safe_name(name: str) -> str:
    """The last part of a name, of letters, digits and ``_ - .`` alone, and not too long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    last = re.sub(r"[^\w.-]+", "_", last).lstrip(".")
    path = PurePosixPath(last or "upload")
    return path.stem[:_STEM] + path.suffix[:_SUFFIX]


def _store(files: Sequence[UploadFile], folder: Path) -> list[Path]:
    """Each in a folder of its own, as several may have the same name."""
    stored = []
    for number, part in enumerate(files):
        place = folder / f"{number:05}"
        place.mkdir()
        stored.append(place / safe_name(part.filename or ""))
        with stored[-1].open("wb") as file:
            shutil.copyfileobj(part.file, file)
    return stored
