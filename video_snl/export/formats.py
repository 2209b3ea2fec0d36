"""The two kinds of files: written with all that is needed to use them, and read back.

ONNX has no checksum, so that an ONNX file gets one in its own metadata: the entry
``video_snl_sha256`` holds the SHA-256 of the file in which its 64 digits are zeros.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from video_snl.errors import UserError
from video_snl.export.inputs import Input
from video_snl.utils.archives import check_archive, unreadable_error
from video_snl.utils.extras import require
from video_snl.utils.finite import check_weights
from video_snl.utils.json_text import to_json

__all__ = ["FORMATS", "Format", "FormatName", "Run", "check_seal", "format_of"]

FormatName = Literal["torch", "onnx"]
Run = Callable[..., Tensor]
"""A network that was read: its inputs -> logits or features."""

_ENTRY = "video_snl"  # of what the file says of itself
_EXTRA = f"{_ENTRY}.json"
# Of one file of protocol buffers.
_LARGEST_ONNX = 2**31 - 1
_SEAL = f"{_ENTRY}_sha256"
_ZEROS = b"0" * 64
# An entry of the metadata as protocol buffers write it: field 1 the name, field 2 of 64 bytes.
_MARK = b"\x0a" + bytes([len(_SEAL)]) + _SEAL.encode() + b"\x12" + bytes([len(_ZEROS)])


@dataclass(frozen=True)
class Format:
    """A kind of files.

    Attributes:
        suffix: Suffix of the files.
        runtime: Name of the runtime that runs them.
        check: Raises a UserError where it cannot be written or read on this machine.
        write: A graph, what is to be said of it, a path.
        read: From a path and a device; returns the network and the text that is said of it.
        describe: Reads that text alone.

    ``read`` and ``describe`` raise a UserError for a file that is damaged or none of this kind.
    """

    suffix: str
    runtime: str
    check: Callable[[], None]
    write: Callable[[ExportedProgram, Mapping[str, Any], Path], None]
    read: Callable[[Path, torch.device], tuple[Run, str]]
    describe: Callable[[Path], str]


def format_of(path: Path) -> FormatName:
    """Return the format of a file by its suffix.

    Raises:
        UserError: It has another one.
    """
    for name, form in FORMATS.items():
        if path.suffix == form.suffix:
            return name
    raise UserError(f"{path}: expected a file that ends in .onnx or .pt2.")


def _check_torch() -> None:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9):
        raise UserError(f"exported networks need torch 2.9 or newer, found {torch.__version__}.")


def _check_onnx() -> None:
    _check_torch()
    require("export")


def _write_torch(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> None:
    # Where torch cannot write to its file, as on a full disk, it ends the process.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={_EXTRA: to_json(about)})
    path.write_bytes(content.getbuffer())


def _read_torch(path: Path, device: torch.device) -> tuple[Run, str]:
    from torch.export.passes import move_to_device_pass

    check_archive(path)
    text = _describe_torch(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # of any kind, as damaged bytes are
        raise _unreadable(path, error) from error
    check_weights({**program.state_dict, **_tensors(program.constants)}, str(path))
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    # The guards are about the layout of feature maps of a single position, and change no result.
    return program.module(check_guards=False), text


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _describe_torch(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"extra/{_EXTRA}")]
            return archive.read(names[0]).decode() if names else ""
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError, and NotImplementedError of its kind: encrypted, or compressed in an unknown
        # way, as damaged headers say; ValueError: no UTF-8, and offsets outside the file.
        raise _unreadable(path, error) from error


def _write_onnx(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> None:
    given = Input.from_facts(about["input"])
    free = {axis: name for axis, name in enumerate(given.axes) if name in given.free}
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=list(given.names),
            output_names=[given.output],
            # The batch of the lengths is that of the first input, which gives it its name.
            dynamic_shapes=(free, *[{} for _ in given.names[1:]]) if free else None,
        )
    except torch.onnx.OnnxExporterError as error:
        line = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"ONNX has no form of this network ({line[:200]}): take .pt2.") from error
    assert made is not None
    made.model.metadata_props.update({_ENTRY: to_json(about), _SEAL: _ZEROS.decode()})
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > _LARGEST_ONNX:
        raise UserError(
            f"{size} bytes of weights are more than a single ONNX file holds: take .pt2"
        )
    made.save(str(path), external_data=False)
    _seal(path)


def _seal(path: Path) -> None:
    """Write the hash of a file into it, in the place of the zeros."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        start = _start(content)
        if start is None or content[start : start + len(_ZEROS)] != _ZEROS:
            raise ValueError(f"{path} has no entry {_SEAL} to be filled.")
        content[start : start + len(_ZEROS)] = _hash(content, start).encode()


def check_seal(path: Path) -> None:
    """Compare a file with the hash in it; files without one, as of earlier versions, pass.

    Raises:
        UserError: It is damaged, or cannot be read.
    """
    try:
        whole = _is_whole(path)
    except OSError as error:
        raise unreadable_error(path, error) from error
    if not whole:
        raise UserError(
            f"{path} cannot be read: it is damaged, its bytes differ from the SHA-256 in it; "
            "export the checkpoint again, or take another copy of the file."
        )


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.read(1):
            return True  # no network, as whoever reads it says; mmap takes no empty file
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = _start(content)
            if start is None:
                return True
            found = content[start : start + len(_ZEROS)]
            return found == _hash(content, start).encode()


def _start(content: mmap.mmap) -> int | None:
    """Return where the digits of the hash begin; None without an entry."""
    at = content.rfind(_MARK)
    end = at + len(_MARK) + len(_ZEROS)
    return None if at < 0 or end > len(content) else at + len(_MARK)


def _hash(content: mmap.mmap, start: int) -> str:
    digest = hashlib.sha256()
    with memoryview(content) as view:
        for part in (view[:start], _ZEROS, view[start + len(_ZEROS) :]):
            digest.update(part)
            if isinstance(part, memoryview):
                part.release()
    return digest.hexdigest()


def _session(path: Path, *, optimised: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: of its optimiser's warnings there is no use
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds have no common base
        raise _unreadable(path, error) from error


def _read_onnx(path: Path, device: torch.device) -> tuple[Run, str]:
    check_seal(path)
    session = _session(path, optimised=True)
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        arrays = (np.ascontiguousarray(x.detach().numpy()) for x in inputs)
        (output,) = session.run(None, dict(zip(names, arrays, strict=True)))
        return torch.from_numpy(np.asarray(output))

    return run, _said_by(session)


def _describe_onnx(path: Path) -> str:
    return _said_by(_session(path, optimised=False))


def _said_by(session: Any) -> str:
    return str(session.get_modelmeta().custom_metadata_map.get(_ENTRY, ""))


def _unreadable(path: Path, error: Exception) -> UserError:
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserError(
        f"{path} cannot be read ({line.strip()[:120]}): it is damaged, cut short or no such file; "
        "export the checkpoint again."
    )


FORMATS: dict[FormatName, Format] = {
    "torch": Format(
        ".pt2", "torch.export", _check_torch, _write_torch, _read_torch, _describe_torch
    ),
    "onnx": Format(".onnx", "onnxruntime", _check_onnx, _write_onnx, _read_onnx, _describe_onnx),
}
