"""Latency and size of the forms of a network."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Form", "compiled_form", "eager_form", "exported_form", "table"]

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Form:
    """Form of a network.

    Attributes:
        name: ``eager``, ``compiled`` or ``exported``, and by what.
        size: Bytes of its weights, or of its file.
        latency: Median seconds for one input; None where it does not run here.
        note: Remark on it.
    """

    name: str
    size: int | None
    latency: float | None
    note: str = ""

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def eager_form(network: nn.Module, x: Tensor, runs: int) -> Form:
    """Time the checkpoint's network as it is."""
    weights = {*network.parameters(), *network.buffers()}
    size = sum(value.numel() * value.element_size() for value in weights)
    return Form("eager", size, _median(network, x, runs))


def compiled_form(network: nn.Module, x: Tensor, runs: int) -> Form:
    """Time it compiled by torch.compile; the note says how long that took, or why not."""
    torch._dynamo.reset()
    # A compiled call leaves traces on the module.
    compiled = torch.compile(copy.deepcopy(network))
    start = time.perf_counter()
    try:
        with torch.no_grad():
            compiled(x)
    except Exception as error:  # of any kind: compilers, their tools and their caches fail
        return Form("compiled", None, None, f"not possible: {_short(error)}")
    note = f"compiling took {time.perf_counter() - start:.1f} s"
    return Form("compiled", None, _median(compiled, x, runs), note)


def exported_form(run: Run, runtime: str, size: int, x: Tensor, runs: int) -> Form:
    """Time the exported file in its runtime."""
    return Form(f"exported, {runtime}", size, _median(run, x, runs))


@torch.no_grad()
def _median(run: Run, x: Tensor, runs: int) -> float:
    run(x)
    return statistics.median(_seconds(run, x) for _ in range(runs))


def _seconds(run: Run, x: Tensor) -> float:
    start = time.perf_counter()
    run(x)
    return time.perf_counter() - start


def _short(error: Exception) -> str:
    """Return the cause at the bottom in one line."""
    cause: BaseException = error
    while (inner := getattr(cause, "inner_exception", None) or cause.__cause__) is not None:
        cause = inner
    line = next((line for line in str(cause).splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {line.strip()[:120]}" if line else type(cause).__name__


def table(forms: list[Form], shape: tuple[int, ...], runs: int) -> str:
    """Format the forms as text."""
    threads = torch.get_num_threads()
    sizes = " x ".join(map(str, shape))
    lines = [
        f"one input of {sizes}: median of {runs} runs on the CPU, {threads} "
        f"thread{'' if threads == 1 else 's'}",
        f"{'network':24} {'size':>10} {'latency':>10}",
    ]
    for form in forms:
        size = "-" if form.size is None else f"{form.size / 1e6:.1f} MB"
        latency = "-" if form.latency is None else f"{1e3 * form.latency:.1f} ms"
        lines.append(f"{form.name:24} {size:>10} {latency:>10}  {form.note}".rstrip())
    return "\n".join(lines)
