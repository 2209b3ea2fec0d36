"""What ``video-snl export`` says of the file it has written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from video_snl.export.checking import BOUND, Difference
from video_snl.export.formats import FORMATS, OUTPUT, FormatName
from video_snl.export.inputs import Input
from video_snl.export.latency import Form, table
from video_snl.runs.kinds import AnyTrained

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """A file, how it differs from the checkpoint's network, and the forms of the network.

    Attributes:
        runs: That latencies are the median of.
    """

    path: Path
    format: FormatName
    trained: AnyTrained
    given: Input
    differences: list[Difference]
    forms: list[Form]
    runs: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input that is timed."""
        return self.differences[0].shape

    def text(self) -> str:
        free = set(self.given.free)
        sizes = ["1", "3", *map(str, self.given.sizes)]
        axes = [
            name if name in free else f"{name}={size}"
            for name, size in zip(self.given.axes, sizes, strict=True)
        ]
        lines = [
            f"{self.path}: {FORMATS[self.format].runtime}, {self.path.stat().st_size / 1e6:.1f} MB",
            f"input: {self.given.name} ({', '.join(axes)}), float32, normalised; output: {OUTPUT}",
            f"largest difference from the checkpoint, of the largest logit (bound {BOUND:g}):",
        ]
        for found in self.differences:
            sizes_text = " x ".join(map(str, found.shape))
            lines.append(f"  {found.what:8}{sizes_text:24}{found.largest:.1e}")
        if self.forms:
            lines.append(table(self.forms, self.shape, self.runs))
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Plain values, for JSON; latencies in seconds, sizes in bytes."""
        return {
            "file": str(self.path),
            "format": self.format,
            "bytes": self.path.stat().st_size,
            "checkpoint": str(self.trained.path),
            "torch": torch.__version__,
            "input": self.given.facts(),
            "bound": BOUND,
            "differences": [found.facts() for found in self.differences],
            "timed_shape": list(self.shape),
            "runs": self.runs,
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "forms": [form.facts() for form in self.forms],
        }
