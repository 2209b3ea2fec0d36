"""The two kinds of files: written with all that is needed to use them, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from video_snl.errors import UserError
from video_snl.export.graph import axis_names

__all__ = ["FORMATS", "Format", "FormatName", "Run", "format_of"]

FormatName = Literal["torch", "onnx"]
Run = Callable[[Tensor], Tensor]
"""A network that was read: (B, 3, ...) -> logits."""

OUTPUT = "logits"
_ENTRY = "video_snl"  # of what the file says of itself
_EXTRA = f"{_ENTRY}.json"
_MISSING = "pip install 'video-snl[export]'"
# Of one file of protocol buffers.
_LARGEST_ONNX = 2**31 - 1


@dataclass(frozen=True)
class Format:
    """A kind of files.

    Attributes:
        suffix: Of their names.
        runtime: What runs them here.
        check: Raises a UserError where it cannot be written or read on this machine.
        write: A graph, what is to be said of it, a path.
        read: From a path and a device; returns the network and the text that is said of it.
    """

    suffix: str
    runtime: str
    check: Callable[[], None]
    write: Callable[[ExportedProgram, Mapping[str, Any], Path], None]
    read: Callable[[Path, torch.device], tuple[Run, str]]


def format_of(path: Path) -> FormatName:
    """By the suffix of a file.

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
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX needs the package {error.name}, which is missing: {_MISSING}") from error


def _write_torch(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={_EXTRA: json.dumps(about)})


def _read_torch(path: Path, device: torch.device) -> tuple[Run, str]:
    from torch.export.passes import move_to_device_pass

    extra = {_EXTRA: ""}
    program = torch.export.load(path, extra_files=extra)
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    # The guards are about the layout of feature maps of a single position, and change no result.
    return program.module(check_guards=False), extra[_EXTRA]


def _write_onnx(program: ExportedProgram, about: Mapping[str, Any], path: Path) -> None:
    given = about["input"]
    names = axis_names(len(given["axes"]))
    free = {axis: name for axis, name in enumerate(names) if name in given["free"]}
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        external_data=False,
        input_names=[given["name"]],
        output_names=[OUTPUT],
        dynamic_shapes=(free,) if free else None,
    )
    assert made is not None
    made.model.metadata_props[_ENTRY] = json.dumps(about)
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > _LARGEST_ONNX:
        raise UserError(f"{size} bytes of weights are more than a single ONNX file holds: take .pt2")
    made.save(str(path), external_data=False)


def _read_onnx(path: Path, device: torch.device) -> tuple[Run, str]:
    import onnxruntime

    if device.type != "cpu":
        raise UserError(f"{path}: ONNX files run on the CPU here; give --accelerator cpu.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; of its own optimiser's warnings there is no use
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {name: np.ascontiguousarray(x.detach().numpy())})
        return torch.from_numpy(np.asarray(logits))

    return run, session.get_modelmeta().custom_metadata_map.get(_ENTRY, "")


FORMATS: dict[FormatName, Format] = {
    "torch": Format(".pt2", "torch.export", _check_torch, _write_torch, _read_torch),
    "onnx": Format(".onnx", "onnxruntime", _check_onnx, _write_onnx, _read_onnx),
}
