#!/usr/bin/env python
"""Time and memory of a training step of an I3D without and with one nonlocal block.

A step is forward, backward and an SGD update on random clips. The networks take turns in one
process, so that all see the same machine; a reported ratio is the median of the ratios to the step
of the first network in the same turn. Processor time is that of all threads. Peak memory is
measured in a process of its own for each network.

    python scripts/benchmarks/train_step.py
    python scripts/benchmarks/train_step.py --batch 32 --device cuda --json step.json
    python scripts/benchmarks/train_step.py --backbone i3d_small --frames 8 --size 64 --batch 16 \
        --blocks none nl snl
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark_arguments import new_parser, positive

from video_snl.utils.files import write_json
from video_snl.utils.json_text import to_json

if TYPE_CHECKING:
    from torch import Tensor


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.memory_of:
        print(to_json(measure_memory(options, options.memory_of)))
        return 0
    result = {
        "setting": setting(options),
        "time": measure_time(options),
        "memory": {
            variant: {} if options.no_memory else memory_in_own_process(options, variant)
            for variant in options.blocks
        },
    }
    print(table(result))
    if options.json:
        write_json(options.json, result)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: cuda if any")
    add("--batch", type=positive, help="clips of a step (default: 2 on a CPU, 32 on a GPU)")
    add("--frames", type=positive, default=16, help="frames of a clip (default: 16)")
    add("--size", type=positive, default=112, help="height and width in pixels (default: 112)")
    add("--classes", type=positive, default=101, help="size of the classifier (default: 101)")
    add("--backbone", default="i3d_r50", help="a video backbone (default: i3d_r50)")
    add("--blocks", nargs="+", default=["none", "snl"], help="first: baseline (default: none snl)")
    add("--position", default="before:res4.-1", help="of the block (default: before:res4.-1)")
    add(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="bfloat16 is autocast (default: bfloat16 on a GPU, float32 on a CPU)",
    )
    add("--channels-last", action="store_true", help="keep the channels last in memory")
    add("--compile", action="store_true", help="torch.compile the networks (default: not)")
    add("--warmup", type=int, help="steps before the clock starts (default: 1 CPU, 10 GPU)")
    add("--steps", type=positive, help="timed steps of each network (default: 6 CPU, 50 GPU)")
    add("--threads", type=positive, help="threads on a CPU (default: torch's choice)")
    add("--no-memory", action="store_true", help="time only")
    add("--json", type=Path, help="write the figures to this file, too")
    add("--memory-of", help=argparse.SUPPRESS)
    return _with_defaults(parser.parse_args(arguments))


def _with_defaults(options: argparse.Namespace) -> argparse.Namespace:
    import torch  # after the arguments are accepted: --help does not wait for it

    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    on_gpu = options.device == "cuda"
    defaults = {
        "batch": 32 if on_gpu else 2,
        "warmup": 10 if on_gpu else 1,
        "steps": 50 if on_gpu else 6,
        "threads": torch.get_num_threads(),
    }
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.precision == "auto":
        options.precision = "bfloat16" if on_gpu else "float32"
    torch.set_num_threads(options.threads)
    return options


def setting(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    names = (
        *("backbone", "batch", "frames", "size", "position", "precision"),
        *("channels_last", "compile", "warmup", "steps"),
    )
    on_gpu = options.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {options.threads} threads",
        **{name: getattr(options, name) for name in names},
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class Training:
    """A network without (``none``) or with the block, random clips and an optimizer."""

    def __init__(self, options: argparse.Namespace, variant: str) -> None:
        import torch

        from video_snl.blocks.insertion import insert_blocks
        from video_snl.config.backbones import VIDEO_BACKBONES

        self.half = options.precision == "bfloat16"
        self.device = torch.device(options.device)
        layout = torch.channels_last_3d if options.channels_last else torch.contiguous_format
        random = torch.Generator().manual_seed(0)
        shape = (options.batch, 3, options.frames, options.size, options.size)
        clips = torch.randn(shape, generator=random)
        labels = torch.randint(options.classes, (options.batch,), generator=random)
        self.clips = clips.to(self.device, memory_format=layout)
        self.labels = labels.to(self.device)
        self.model = VIDEO_BACKBONES[options.backbone].build(options.classes, 0.0)
        if variant != "none":
            # Not the identity at the start, so that no product is one with zeros.
            insert_blocks(self.model, variant, [options.position], zero_init=False)
        self.model.to(self.device).to(memory_format=layout).train()
        if options.compile:
            self.model.compile()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4
        )

    def loss(self) -> Tensor:
        import torch
        from torch.nn import functional as F

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            return F.cross_entropy(self.model(self.clips), self.labels)

    def step(self) -> None:
        """Forward, backward and update, to their end also on a GPU."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure_time(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of every step; the networks take turns, and in who leads as well.

    By the clock on the wall, and of processor time: on a busy machine only the latter, with one
    thread, says something about the networks.
    """
    trainings = {variant: Training(options, variant) for variant in options.blocks}
    wall: dict[str, list[float]] = {variant: [] for variant in options.blocks}
    processor: dict[str, list[float]] = {variant: [] for variant in options.blocks}
    for index in range(options.warmup + options.steps):
        for variant in options.blocks if index % 2 == 0 else options.blocks[::-1]:
            start, start_processor = time.perf_counter(), time.process_time()
            trainings[variant].step()
            if index >= options.warmup:
                wall[variant].append(time.perf_counter() - start)
                processor[variant].append(time.process_time() - start_processor)
    return {"wall": _compared(wall), "processor": _compared(processor)}


def _compared(seconds: dict[str, list[float]]) -> dict[str, Any]:
    bare = next(iter(seconds.values()))
    ratios = {
        variant: [own / base for base, own in zip(bare, values, strict=True)]
        for variant, values in seconds.items()
    }
    return {"seconds": seconds, "ratio": {name: spread(values) for name, values in ratios.items()}}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "lower": values[0], "upper": values[0]}
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}


def memory_in_own_process(options: argparse.Namespace, variant: str) -> dict[str, float]:
    words = [
        sys.executable,
        __file__,
        *(f"--memory-of={variant}", f"--device={options.device}", f"--batch={options.batch}"),
        *(f"--frames={options.frames}", f"--size={options.size}"),
        *(f"--classes={options.classes}", f"--position={options.position}"),
        *(f"--backbone={options.backbone}",),
        *(f"--precision={options.precision}", f"--threads={options.threads}"),
        *(["--channels-last"] if options.channels_last else []),
        *(["--compile"] if options.compile else []),
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_memory(options: argparse.Namespace, variant: str) -> dict[str, float]:
    """Measure the MiB of a step, once gradients and momentum exist.

    ``peak_mib``: on a GPU what its allocator has given out at most; on a CPU the growth of the
    process's largest resident size since before the network was built. ``tensors_mib``: the
    network, its gradients and momentum, and what forward keeps for backward.
    """
    import torch

    import video_snl.blocks.insertion  # noqa: F401 - what it loads is not part of the growth

    on_gpu = options.device == "cuda"
    before = 0.0 if on_gpu else _resident_peak_mib()
    training = Training(options, variant)
    for _ in range(2):
        training.step()
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else _resident_peak_mib() - before
    return {"peak_mib": peak, "tensors_mib": _tensors_mib(training)}


def _tensors_mib(training: Training) -> float:
    import torch

    # By address: one storage may be kept several times.
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    for tensor in [*training.model.parameters(), *training.model.buffers()]:
        keep(tensor)
        if tensor.grad is not None:
            keep(tensor.grad)
            keep(training.optimizer.state[tensor]["momentum_buffer"])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = training.loss()
    loss.backward()  # only now: until here the graph keeps what was counted
    return sum(sizes.values()) / 2**20


def _resident_peak_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("error: /proc/self/status has no VmHWM; measure memory on Linux.")


def table(result: dict[str, Any]) -> str:
    """Format a Markdown table: medians with quartiles, and ratios to the first network."""
    facts = ", ".join(f"{name} {value}" for name, value in result["setting"].items())
    wall, processor = result["time"]["wall"], result["time"]["processor"]
    head = (
        "| block | step, s | ratio | processor time, ratio | peak memory, MiB | live tensors, MiB |"
    )
    rows = [facts, "", head, "|---|---|---|---|---|---|"]
    bare = next(iter(result["memory"].values()))
    for variant, memory in result["memory"].items():
        step = _with_quartiles(spread(wall["seconds"][variant]), 4)
        ratios = [_with_quartiles(times["ratio"][variant], 3) for times in (wall, processor)]
        sizes = [
            f"{memory[name]:.0f} ({memory[name] / bare[name]:.3f})" if memory else "-"
            for name in ("peak_mib", "tensors_mib")
        ]
        rows.append(f"| {' | '.join([variant, step, *ratios, *sizes])} |")
    return "\n".join(rows)


def _with_quartiles(values: dict[str, float], digits: int) -> str:
    median, lower, upper = (f"{values[name]:.{digits}f}" for name in ("median", "lower", "upper"))
    return f"{median} ({lower} - {upper})"


if __name__ == "__main__":
    sys.exit(main())
