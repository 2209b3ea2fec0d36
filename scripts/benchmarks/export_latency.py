"""Sizes and latencies of a network as it is, compiled and exported, with weights of no training.

python scripts/benchmarks/export_latency.py --backbone i3d_r50 --block snl --clip 16 112 112
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.video import ModelConfig
from video_snl.export.checking import check_equal, random_inputs
from video_snl.export.command import (
    Form,
    compiled_form,
    eager_form,
    exported_form,
    latency_table,
    record_graph,
)
from video_snl.export.formats import FORMATS, FormatName
from video_snl.export.inputs import Input, free_axes
from video_snl.models.video import build_model

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=list(VIDEO_BACKBONES), default="i3d_small")
    parser.add_argument("--block", default="snl", help="Of the zoo, or none.")
    parser.add_argument("--classes", type=int, default=101)
    parser.add_argument("--clip", type=int, nargs=3, default=[8, 64, 64], metavar=("T", "H", "W"))
    parser.add_argument("--dynamic", default="all", help="As of video-snl export.")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--not_compiled", action="store_true")
    asked = parser.parse_args()
    config = ModelConfig(backbone=asked.backbone, block=asked.block, zero_init=False)
    network = build_model(config, asked.classes)[0].eval()
    smallest = VIDEO_BACKBONES[asked.backbone].smallest_clip
    given = Input("clips", tuple(asked.clip), smallest, free_axes(asked.dynamic, 5))
    [(_, x)] = random_inputs(given.trials()[:1])
    forms = [eager_form(network, x, asked.runs)]
    if not asked.not_compiled:
        forms.append(compiled_form(network, x, asked.runs))
    forms += exported_forms(network, given, asked.runs)
    print(f"{asked.backbone}, block {asked.block}, free: {', '.join(given.free) or 'none'}")
    print(latency_table(forms, tuple(x.shape), asked.runs))


def exported_forms(network: nn.Module, given: Input, runs: int) -> list[Form]:
    """Export the network in both formats, compared with what it was."""
    graph, given = record_graph(network, given)
    [(what, x)] = random_inputs(given.trials()[:1])
    names: list[FormatName] = list(FORMATS)
    forms = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            form, path = FORMATS[name], Path(folder) / f"model{FORMATS[name].suffix}"
            form.write(graph, {"input": given.facts()}, path)
            run, _ = form.read(path, CPU)
            check_equal(network, run, [(what, x)])
            forms.append(exported_form(run, form.runtime, path.stat().st_size, x, runs))
    return forms


if __name__ == "__main__":
    main()
