"""Damaged files of weights are noticed before a weight is used."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from video_snl.errors import UserError
from video_snl.models.weights.sources import read_checkpoint
from video_snl.utils.archives import DamagedArchive, check_archive


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "epoch": 3,
        "state_dict": {f"model.{i}.weight": torch.randn(5, generator=generator) for i in range(3)},
    }


@pytest.fixture(scope="module")
def whole(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    ours, theirs = a["state_dict"], b["state_dict"]
    return (
        a["epoch"] == b["epoch"]
        and list(ours) == list(theirs)
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
    )


def test_a_flipped_bit_is_an_error_or_changes_no_value(tmp_path, whole, content) -> None:
    path, noticed = tmp_path / "last.ckpt", 0
    # A prime step: all eight bits of bytes in every part of the archive.
    flips = range(0, 8 * len(whole), 13)
    for bit in flips:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except UserError as error:
            noticed += 1
            assert str(path) in str(error) and "\n" not in str(error)  # noqa: PT017
        else:
            assert same(found, content), f"bit {bit} changes the checkpoint and is not noticed"
    # The rest are flips of padding, time stamps and attributes.
    assert noticed > len(flips) / 4


def test_every_flip_in_a_tensor_is_noticed(tmp_path, whole, content) -> None:
    path = tmp_path / "last.ckpt"
    value = content["state_dict"]["model.1.weight"].numpy().tobytes()
    start = whole.index(value)
    for bit in range(8 * start, 8 * (start + len(value)), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedArchive, match="checksum"):
            read_checkpoint(path)


def test_every_flip_in_the_list_of_entries_is_noticed_or_changes_no_value(
    tmp_path, whole, content
) -> None:
    """PyTorch leaves memory as it is where an entry is marked as a folder."""
    path = tmp_path / "last.ckpt"
    entries = [found.start() for found in re.finditer(b"PK\1\2", whole)]
    tensors = [at for at in entries if b"/data/" in whole[at + 46 : at + 46 + 30]]
    assert len(tensors) == 3
    for at in tensors:
        for bit in range(8 * at, 8 * (at + 46)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                found = read_checkpoint(path)
            except UserError:
                continue
            assert same(found, content), f"bit {bit - 8 * at} changes the checkpoint"
    damaged = bytearray(whole)
    damaged[tensors[1] + 38] ^= 0x10
    path.write_bytes(damaged)
    with pytest.raises(DamagedArchive, match="marked as a folder"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("before", "keep", "after"),
    [
        (b"", 1.0, b"\0" * 40),
        (b"\n\n", 1.0, b""),
        (b"", 0.5, b""),
        (b"", 0.999, b""),
        (b"", 0, b""),
    ],
)
def test_bytes_too_many_or_too_few_are_errors(tmp_path, whole, before, keep, after) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(before + whole[: int(keep * len(whole))] + after)
    with pytest.raises(DamagedArchive, match="fetch the file again") as caught:
        check_archive(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("other_is_whole", [True, False])
def test_the_other_checkpoint_of_the_run_is_named_if_it_is_whole(
    tmp_path: Path, whole, other_is_whole
) -> None:
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    best.write_bytes(whole[:-30])
    last.write_bytes(whole if other_is_whole else whole[:-30])
    with pytest.raises(DamagedArchive) as caught:
        check_archive(best)
    assert (f"--checkpoint {last}" in str(caught.value)) is other_is_whole


def test_whole_files_pass(tmp_path, whole, content) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    check_archive(path)  # it has no checksum
    path.write_bytes(whole)
    check_archive(path)
    # As other programs pack archives anew: compressed, and with a comment.
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w") as new:
        new.comment = b"packed anew"
        for entry in old.infolist():
            new.writestr(entry, old.read(entry), zipfile.ZIP_DEFLATED)
    check_archive(path)
