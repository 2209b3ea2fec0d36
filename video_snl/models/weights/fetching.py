"""Files that are fetched once over the network, and used only while they are what was fetched.

A file lies in torch hub's cache. Beside it lies a record: its address, its size and its SHA-256,
which are those of the first fetch. Whenever the file is used it is compared with the record, and
with the digits that some publishers put into its name (``r3d_18-b3b3357e.pth``: torchvision's are
the first eight of the SHA-256). What differs is set aside and never used.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from video_snl.errors import UserError
from video_snl.utils.files import digest_of, write_json
from video_snl.utils.locks import waiting_lock
from video_snl.utils.text import say_once

__all__ = ["cached_path", "discard", "fetch", "is_kept"]

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20
_DIGITS = re.compile(r"-([0-9a-f]{8,64})\.\w+")
_DIGITS_OF = ("https://download.pytorch.org/",)
"""Publishers whose file names hold digits of the SHA-256; in those of others they may be a date."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def cached_path(name: str) -> Path:
    """Return the place in torch hub's cache of a file of this name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def fetch(url: str, name: str | None = None, *, progress: bool = True) -> Path:
    """Return the file at ``url``, from the cache or downloaded into it.

    A download that was interrupted goes on where it stopped if the server can tell that the file is
    still the same (by its ETag), else it starts again. It has a name of its own until it is
    complete and checked. Of several processes one fetches, and the others wait for it.

    Args:
        url: Address.
        name: Name in the cache; None: that in the address. Digits of a hash in the name of the
            address are compared with the file.
        progress: Show a progress bar.

    Raises:
        UserError: It cannot be fetched, is not what its publisher names or what was fetched before,
            or the cache cannot be written to.
    """
    target = cached_path(name or Path(url).name)
    try:
        if target.is_file():
            _check_kept(target, url)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(target.with_name(f".{target.name}.lock"), f"fetches {target.name}"):
            if not target.is_file():  # another process has fetched it meanwhile
                _fetch(url, target, progress)
    # HTTPException and ValueError: an answer or a URL that is malformed.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(
            f"cannot fetch {url} ({error}). Fetch it by hand, on a machine that can, and put it at "
            f"{target}, or give the file: --model.weights FILE of train, --weights FILE of other "
            "commands."
        ) from error
    return target


def _fetch(url: str, target: Path, progress: bool) -> None:
    partial = target.with_name(f".{target.name}.partial")
    about = target.with_name(f".{target.name}.partial.json")
    tag, size = _download(url, partial, about, progress)
    received = partial.stat().st_size
    if size is not None and received != size:
        if tag is None:  # nothing could tell whether the rest is of the same file
            partial.unlink()
        raise OSError(f"the connection broke off after {received} of {size} bytes")
    digest = digest_of(partial)
    about.unlink(missing_ok=True)
    named = _named_digits(url)
    if named and not digest.startswith(named):
        aside = _set_aside(partial, target)
        raise UserError(
            f"what was fetched from {url} is not what its publisher names: its SHA-256 begins with "
            f"{digest[: len(named)]}, its name says {named}. It was kept as {aside} and is "
            "not used. Give the command again to fetch it anew."
        )
    partial.replace(target)
    write_json(_record_path(target), {"url": url, "bytes": received, "sha256": digest})


def _named_digits(url: str) -> str | None:
    """Return the first digits of a file's SHA-256, where its publisher puts them in the name."""
    if not url.startswith(_DIGITS_OF):
        return None
    found = _DIGITS.search(Path(url.partition("?")[0]).name)
    return found and found[1]


def _download(
    url: str, partial: Path, about: Path, progress: bool
) -> tuple[str | None, int | None]:
    """Fetch the rest of a file, or all of it.

    Returns:
        The server's tag of the file, by which it can go on; and the size of the whole file. None
        where it names none.
    """
    begun, tag = _begun(url, partial, about)
    headers = {"User-Agent": "video-snl"}
    if tag is not None:
        headers |= {"Range": f"bytes={begun}-", "If-Range": tag}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or tag is None:
            raise
        # The part is as long as the file, or longer than it.
        partial.unlink(missing_ok=True)
        about.unlink(missing_ok=True)
        return _download(url, partial, about, progress)
    with answer:
        place = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
        if answer.status == http.client.PARTIAL_CONTENT:
            if place is None or int(place[1]) != begun:
                raise OSError(f"asked for the file from byte {begun}, the server sent other bytes")
            size: int | None = int(place[2])
        else:
            begun = 0
            length = answer.headers.get("Content-Length")
            size = int(length) if length is not None and length.isdecimal() else None
        found = answer.headers.get("ETag")
        # A weak tag ("W/...") is no promise that the bytes are the same.
        tag = found if found and not found.startswith("W/") and size is not None else None
        if tag is None:
            about.unlink(missing_ok=True)
        else:
            write_json(about, {"url": url, "etag": tag, "bytes": size})
        try:
            _write(answer, partial, begun, size, Path(url.partition("?")[0]).name, progress)
        except BaseException:
            if tag is None:
                partial.unlink(missing_ok=True)
            raise
    return tag, size


def _begun(url: str, partial: Path, about: Path) -> tuple[int, str | None]:
    """Return the size of a part that can be gone on with, and the tag of its file."""
    known = _json(about)
    if partial.is_file() and known.get("url") == url and isinstance(known.get("etag"), str):
        size = partial.stat().st_size
        if 0 < size < known.get("bytes", 0):
            return size, known["etag"]
    return 0, None


def _write(
    answer: http.client.HTTPResponse,
    partial: Path,
    begun: int,
    size: int | None,
    name: str,
    progress: bool,
) -> None:
    from tqdm import tqdm  # of an extra, which files that are there already do not need

    bar = tqdm(
        total=size,
        initial=begun,
        desc=name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=not progress,
    )
    with partial.open("ab" if begun else "wb") as file, bar:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _check_kept(path: Path, url: str) -> None:
    """Compare a file of the cache with its record; without one, make it.

    Raises:
        UserError: It is not the file that was fetched, or that its publisher names.
    """
    known, digest = _json(_record_path(path)), digest_of(path)
    named = _named_digits(url)
    before = known.get("sha256")
    if before is not None and before != digest:
        by_hand = known.get("by_hand")
        source = "put there before" if by_hand else f"fetched before from {known.get('url')}"
        fault = f"is not the file that was {source}"
        wanted = str(before)
    elif named and not digest.startswith(named):
        fault, wanted = f"is not what the publisher of {url} names", named
    else:
        if before is None:  # put there by hand, or by another program
            if _record_path(path).exists():
                say_once(
                    f"{_record_path(path)} is damaged: {path} cannot be compared with what was "
                    "fetched first; from now on it is compared with what it is today"
                )
            with suppress(OSError):  # a cache that can only be read is used as it is
                size = path.stat().st_size
                record = {"url": url, "bytes": size, "sha256": digest, "by_hand": True}
                write_json(_record_path(path), record)
        return
    shown = min(len(wanted), 16)
    try:
        aside = discard(path)
    except OSError as error:
        raise UserError(
            f"{path} {fault} and cannot be set aside ({error.strerror}); it is not used. Give "
            "the right file: --model.weights FILE of train, --weights FILE of other commands, "
            "weights=FILE in Python."
        ) from error
    raise UserError(
        f"{path} {fault}: its SHA-256 begins with {digest[:shown]}, expected was "
        f"{wanted[:shown]}. It was kept as {aside} and is not used. Give the command again to "
        "fetch it anew."
    )


def discard(path: Path) -> Path:
    """Set a file of the cache aside that is not to be used, with its record.

    Returns:
        Its new place.

    Raises:
        OSError: It cannot be renamed.
    """
    aside = _set_aside(path, path)
    with suppress(OSError):
        _record_path(path).unlink()
    return aside


def is_kept(path: Path) -> bool:
    """Tell whether a file is one of the cache that :func:`fetch` has returned.

    Files that other programs keep beside it are not ours to move.
    """
    return path.parent == cached_path(path.name).parent and _record_path(path).is_file()


def _set_aside(path: Path, target: Path) -> Path:
    number = 1
    while (aside := target.with_name(f"{target.name}.set-aside-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.fetched.json")


def _json(path: Path) -> Mapping[str, Any]:
    """Read a record; an empty one where there is none, or a damaged one."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}
