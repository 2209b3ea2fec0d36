#!/usr/bin/env python
"""Time and memory of a training step, without and with one nonlocal block, in several settings.

A step is forward, backward and an SGD update on random clips or images. All networks and settings
take turns in one process, so that all see the same machine; a reported ratio is the median of the
ratios to the step of the first one in the same turn. Processor time is that of all threads. Peak
memory is measured in a process of its own for each.

    python scripts/benchmarks/train_step.py
    python scripts/benchmarks/train_step.py --batch 32 --device cuda --json step.json
    python scripts/benchmarks/train_step.py --backbone i3d_small --frames 8 --size 64 --batch 16 \
        --blocks none nl snl
    python scripts/benchmarks/train_step.py --layouts first last --precisions float32 bfloat16 \
        --threads 1 2 --modes eager compiled --no-memory
    python scripts/benchmarks/train_step.py --kind reid --backbone osnet_x0_25 --size 256 128 \
        --frames 4 --position after:conv2 --layouts first last
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmark_arguments import new_parser, positive

from video_snl.utils.files import write_json
from video_snl.utils.json_text import to_json
from video_snl.utils.memory import keep_freed_memory

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Variant:
    """A network in one setting.

    Attributes:
        block: Name of the block, or ``none``.
        layout: Memory layout of clips and weights: channels ``first`` or ``last``; ``clips``: the
            clips' channels last and the weights as they are built, as in a training.
        precision: ``float32``, or ``bfloat16`` (autocast).
        threads: Threads on a CPU.
        mode: ``eager`` or ``compiled`` (torch.compile).
    """

    block: str
    layout: str
    precision: str
    threads: int
    mode: str

    @property
    def name(self) -> str:
        return " ".join(map(str, asdict(self).values()))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.memory_of:
        print(to_json(measure_memory(options, variants(options)[0])))
        return 0
    result = {
        "setting": setting(options),
        "time": measure_time(options),
        "memory": {
            variant.name: {} if options.no_memory else memory_in_own_process(options, variant)
            for variant in variants(options)
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
    add(
        "--size",
        type=positive,
        nargs="+",
        default=[112],
        help="height and width in pixels, or both in one (default: 112)",
    )
    add("--classes", type=positive, default=101, help="size of the classifier (default: 101)")
    add("--kind", choices=["video", "image", "reid"], default="video", help="(default: video)")
    add("--backbone", default="i3d_r50", help="a backbone of the kind (default: i3d_r50)")
    add("--blocks", nargs="+", default=["none", "snl"], help="first: baseline (default: none snl)")
    add("--position", default="before:res4.-1", help="of the block (default: before:res4.-1)")
    add(
        "--precisions",
        nargs="+",
        choices=["auto", "float32", "bfloat16"],
        default=["auto"],
        help="bfloat16 is autocast (default: bfloat16 on a GPU, float32 on a CPU)",
    )
    add(
        "--layouts",
        nargs="+",
        choices=["first", "last", "clips"],
        default=["first"],
        help="place of the channels in memory; clips: last in the clips alone (default: first)",
    )
    add(
        "--modes",
        nargs="+",
        choices=["eager", "compiled"],
        default=["eager"],
        help="torch.compile the networks or not (default: eager)",
    )
    add("--warmup", type=int, help="steps before the clock starts (default: 1 CPU, 10 GPU)")
    add("--steps", type=positive, help="timed steps of each network (default: 6 CPU, 50 GPU)")
    add("--threads", type=positive, nargs="+", help="threads on a CPU (default: torch's choice)")
    add("--keep-memory", action="store_true", help="keep freed memory, as the commands do")
    add("--no-memory", action="store_true", help="time only")
    add("--json", type=Path, help="write the figures to this file, too")
    add("--memory-of", action="store_true", help=argparse.SUPPRESS)
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
        "threads": [torch.get_num_threads()],
    }
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    auto = "bfloat16" if on_gpu else "float32"
    options.precisions = [auto if name == "auto" else name for name in options.precisions]
    if options.keep_memory:
        keep_freed_memory()
    return options


def variants(options: argparse.Namespace) -> list[Variant]:
    return [
        Variant(block, layout, precision, threads, mode)
        for threads, precision, mode, layout, block in itertools.product(
            *(options.threads, options.precisions, options.modes, options.layouts, options.blocks)
        )
    ]


def setting(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    names = (
        *("kind", "backbone", "batch", "frames", "size", "position", "warmup", "steps"),
        *("keep_memory",),
    )
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
        **{name: getattr(options, name) for name in names},
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def network(options: argparse.Namespace, block: str) -> nn.Module:
    """Build a network with its block, which is not the identity at the start.

    (Else one of its products would be one with zeros.)
    """
    from video_snl.blocks.insertion import insert_blocks
    from video_snl.config.backbones import IMAGE_BACKBONES, VIDEO_BACKBONES

    if options.kind == "reid":
        from reid.config import ReidModelConfig
        from reid.models.network import build_network

        config = ReidModelConfig(
            backbone=options.backbone,
            block=cast(Any, block),  # insertion refuses a name that it does not know
            positions=[options.position],
            zero_init=False,
        )
        size = (options.size[0], options.size[-1])
        return build_network(config, options.classes, frames=options.frames, size=size)[0]
    backbones = VIDEO_BACKBONES if options.kind == "video" else IMAGE_BACKBONES
    model = backbones[options.backbone].build(options.classes, 0.0)
    if block != "none":
        insert_blocks(model, block, [options.position], zero_init=False)
    return model


class Training:
    """A network without (``none``) or with the block, random clips and an optimizer."""

    def __init__(self, options: argparse.Namespace, variant: Variant) -> None:
        import torch

        self.half, self.threads = variant.precision == "bfloat16", variant.threads
        self.device = torch.device(options.device)
        on_images = options.kind == "image"
        last = torch.channels_last if on_images else torch.channels_last_3d
        first = torch.contiguous_format
        random = torch.Generator().manual_seed(0)
        axes = (options.size[0], options.size[-1])
        shape = (options.batch, 3, *([] if on_images else [options.frames]), *axes)
        clips = torch.randn(shape, generator=random)
        labels = torch.randint(options.classes, (options.batch,), generator=random)
        layout = first if variant.layout == "first" else last
        self.inputs = [clips.to(self.device, memory_format=layout)]
        if options.kind == "reid":
            mask = torch.ones(options.batch, options.frames, dtype=torch.bool)
            self.inputs.append(mask.to(self.device))
        self.labels = labels.to(self.device)
        self.model = network(options, variant.block).to(self.device).train()
        if variant.layout == "last":
            for parameter in self.model.parameters():  # a network may hold images and clips
                ndim = {4: torch.channels_last, 5: torch.channels_last_3d}.get(parameter.ndim)
                if ndim is not None:
                    parameter.data = parameter.data.to(memory_format=ndim)
        if variant.mode == "compiled":
            self.model.compile()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4
        )

    def loss(self) -> Tensor:
        import torch
        from torch.nn import functional as F

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            output = self.model(*self.inputs)
            logits = output.logits if len(self.inputs) == 2 else output
            return F.cross_entropy(logits, self.labels)

    def step(self) -> None:
        """Forward, backward and update, to their end also on a GPU."""
        import torch

        torch.set_num_threads(self.threads)
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
    trainings = {variant.name: Training(options, variant) for variant in variants(options)}
    names = list(trainings)
    first: dict[str, float] = {}
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for index in range(options.warmup + options.steps):
        for name in names if index % 2 == 0 else names[::-1]:
            start, start_processor = time.perf_counter(), time.process_time()
            trainings[name].step()
            seconds = time.perf_counter() - start
            first.setdefault(name, seconds)
            if index >= options.warmup:
                wall[name].append(seconds)
                processor[name].append(time.process_time() - start_processor)
    return {"wall": _compared(wall), "processor": _compared(processor), "first_step": first}


def _compared(seconds: dict[str, list[float]]) -> dict[str, Any]:
    bare = next(iter(seconds.values()))
    ratios = {
        variant: [own / base for base, own in zip(bare, values, strict=True)]
        for variant, values in seconds.items()
    }
    return {"seconds": seconds, "ratio": {name: spread(values) for name, values in ratios.items()}}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and largest value."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def memory_in_own_process(options: argparse.Namespace, variant: Variant) -> dict[str, float]:
    words = [
        *(sys.executable, __file__, "--memory-of"),
        *(f"--device={options.device}", f"--batch={options.batch}", f"--frames={options.frames}"),
        *("--size", *map(str, options.size), f"--classes={options.classes}"),
        *(f"--kind={options.kind}", f"--backbone={options.backbone}"),
        *(f"--position={options.position}", f"--blocks={variant.block}"),
        *(f"--layouts={variant.layout}", f"--precisions={variant.precision}"),
        *(f"--threads={variant.threads}", f"--modes={variant.mode}"),
        *(["--keep-memory"] if options.keep_memory else []),
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_memory(options: argparse.Namespace, variant: Variant) -> dict[str, float]:
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
    """Format a Markdown table: medians with least and largest, and ratios to the first row."""
    facts = ", ".join(f"{name} {value}" for name, value in result["setting"].items())
    wall, processor = result["time"]["wall"], result["time"]["processor"]
    head = (
        "| network | step, s | ratio | processor time, s | ratio "
        "| peak memory, MiB | live tensors, MiB | first step, s |"
    )
    rows = [facts, "", head, "|---|---|---|---|---|---|---|---|"]
    bare = next(iter(result["memory"].values()))
    for variant, memory in result["memory"].items():
        cells = []
        for times in (wall, processor):
            cells += [
                _with_limits(spread(times["seconds"][variant])),
                _with_limits(times["ratio"][variant]),
            ]
        sizes = [
            f"{memory[name]:.0f} ({memory[name] / bare[name]:.3f})" if memory else "-"
            for name in ("peak_mib", "tensors_mib")
        ]
        first = f"{result['time']['first_step'][variant]:.1f}"
        rows.append(f"| {' | '.join([variant, *cells, *sizes, first])} |")
    return "\n".join(rows)


def _with_limits(values: dict[str, float]) -> str:
    median, least, largest = (f"{values[name]:.3f}" for name in ("median", "least", "largest"))
    return f"{median} ({least} - {largest})"


if __name__ == "__main__":
    sys.exit(main())
