"""Uploaded files, received within limits and stored under names that can do no harm.

The event loop only passes the bytes on: the form is taken apart, and the files are written, in
threads. Nobody holds a place by sending slowly: an upload that stalls or takes too long is given
up.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from io import BufferedWriter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from video_snl.errors import UserError
from video_snl.serve.service import Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["MOST_FILES", "TooLarge", "TooSlow", "UploadRequest", "safe_name", "too_large"]

MOST_FILES = 1000
_OVERHEAD = 1024 * MOST_FILES  # bytes of a form that are not its files'
_STEM, _SUFFIX = 60, 10  # characters kept of a name, which may take four bytes each
_AT_ONCE = 1 << 18  # bytes that a thread is given
_MOST_PARTS = MOST_FILES + 1
_LEAST = 1000  # bytes a second, which an upload sends at least


class TooLarge(UserError):
    """An upload is over the limit."""


class TooSlow(UserError):
    """An upload has stalled, or takes too long."""


class UploadRequest(Request):
    """A request whose body is refused as soon as it is longer than the limit, or too slow."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        super().__init__(scope, self._receive_noted)
        self._limits = limits
        self._inner, self._complete = receive, False
        # Only what is spent waiting for the client counts against it.
        self._remaining = limits.upload_seconds
        self._patience, self._progress = limits.stall_seconds, 0

    async def _receive_noted(self) -> Message:
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(self._remaining, self._patience)):
                message = await self._inner()
        except TimeoutError:
            raise self._too_slow() from None
        waited = time.monotonic() - began
        self._remaining -= waited
        self._patience -= waited
        self._progress += len(message.get("body", b""))
        if self._progress >= _LEAST * self._limits.stall_seconds:
            self._patience, self._progress = self._limits.stall_seconds, 0
        self._complete = not message.get("more_body", False)
        return message

    def _too_slow(self) -> TooSlow:
        limits = self._limits
        if self._remaining <= self._patience:
            return TooSlow(
                f"the upload took longer than {limits.upload_seconds:g} s and was given up: choose "
                "a smaller file (or start the page with a larger --max_upload_seconds)"
            )
        return TooSlow(
            f"the upload has sent next to nothing for {limits.stall_seconds:g} s and was given up: "
            "try it again"
        )

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
        """Store the files of the form, in the order in which they come.

        Raises:
            TooLarge: Together they are over the limit.
            TooSlow: The client sends too slowly.
            UserError: There is no file, or the body is damaged or has too many parts.
            OSError: A file cannot be written.
        """
        self.check_declared()
        form = _Form(self.headers.get("content-type", ""), folder, self._limits)
        try:
            gathered = bytearray()
            async for chunk in self.stream():
                gathered += chunk
                if len(gathered) >= _AT_ONCE:
                    await run_in_threadpool(form.feed, bytes(gathered))
                    gathered.clear()
            await run_in_threadpool(form.feed, bytes(gathered))
            return form.files()
        finally:
            form.close()

    def check_declared(self) -> None:
        """Refuse by the length that the request says it has, before any of it is read."""
        declared = self.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limits.bytes + _OVERHEAD:
            raise too_large(self._limits)


class _Form:
    """The parts of a body that are files, written while they come, each into a folder of its own.

    Args:
        content_type: The header of that name.
        folder: Folder for the files.

    Raises:
        UserError: The header is malformed.
    """

    def __init__(self, content_type: str, folder: Path, limits: Limits) -> None:
        # The package is one of an extra.
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        self._folder, self._limits = folder, limits
        self._stored: list[Path] = []
        self._file: BufferedWriter | None = None
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._parts = self._size = self._fed = 0
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_part_end": self.close,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }
        boundary, self._charset = _form_of(content_type)
        try:
            self._parser = None if boundary is None else MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _damaged("its boundary is malformed") from error

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            TooLarge, UserError: As for :meth:`UploadRequest.store`.
        """
        from python_multipart.exceptions import FormParserError

        if self._parser is None or not data:
            return
        self._fed += len(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _damaged("its parts cannot be told apart") from error

    def files(self) -> list[Path]:
        """Return what was stored.

        Raises:
            UserError: There is no file, or the body is cut off.
        """
        if self._parser is not None and self._fed and not self._ended:
            raise _damaged("it is cut off")
        if not self._stored:
            raise UserError("no file was uploaded: choose one first")
        return self._stored

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _damaged(f"it has more than {MOST_FILES:,} files")
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _damaged("one of its parts has no name")
        name = self._decoded(options.get(b"filename", b""))
        if options[b"name"] != b"file" or not name:
            return
        place = self._folder / f"{len(self._stored):05}"
        place.mkdir()
        self._stored.append(place / safe_name(name))
        self._file = self._stored[-1].open("wb")

    def _decoded(self, name: bytes) -> str:
        try:
            return name.decode(self._charset)
        except ValueError:
            return name.decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            return
        self._size += end - start
        if self._size > self._limits.bytes:
            raise too_large(self._limits)
        self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self._ended = True


def _form_of(content_type: str) -> tuple[bytes | None, str]:
    """Return the boundary of a form's parts, None of what is not a form, and its names' charset."""
    from python_multipart.multipart import parse_options_header

    try:
        kind, options = parse_options_header(content_type)
        charset = options.get(b"charset", b"utf-8").decode("latin-1")
        codecs.lookup(charset)
        # Some codecs are not of text, or refuse what is.
        b"a".decode(charset)
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged("its Content-Type is malformed") from error
    if kind != b"multipart/form-data":
        return None, charset
    boundary = options.get(b"boundary")
    if not boundary:
        raise _damaged("its Content-Type has no boundary")
    return boundary, charset


def _damaged(how: str) -> UserError:
    return UserError(f"the upload is damaged ({how}): try it again")


def too_large(limits: Limits) -> TooLarge:
    """Return the message."""
    return TooLarge(
        f"the upload is larger than the {limits.megabytes:g} MB that are allowed: choose a smaller "
        "file (or start the page with a larger --max_size)"
    )


def safe_name(name: str) -> str:
    """Return the last part of a name, of letters, digits and ``_ - .`` alone, and not too long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    last = re.sub(r"[^\w.-]+", "_", last).lstrip(".")
    path = PurePosixPath(last or "upload")
    return path.stem[:_STEM] + path.suffix[:_SUFFIX]
