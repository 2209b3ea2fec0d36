"""``reid describe``: layers, blocks, parameters and multiply-adds of a network of tracklets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from reid.config import ReidDataConfig, ReidExperiment
from reid.data.datasets.catalog import DATASETS, load_dataset
from reid.data.tracklet import labels_of
from reid.models.heads import NonlocalHead
from reid.models.network import TrackletNet, build_network
from video_snl.blocks.insertion import inserted_blocks
from video_snl.commands.describe import description, layer_rows, table
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json

__all__ = ["describe", "network_description", "people_count"]

_STAND_IN = 100


def describe(experiment: ReidExperiment, *, as_json: bool) -> int:
    """Print the network of ``experiment``: what it takes to look at one tracklet of T frames.

    Raises:
        UserError: as for :func:`~reid.models.network.build_network`, and for a ``folder`` that
            cannot be read.
    """
    data, people = experiment.data, people_count(experiment.data)
    size = (data.height, data.width)
    # Its sizes are the same whatever weights it starts from.
    config = replace(experiment.model, weights=None)
    net, _ = build_network(config, people, frames=data.frames, size=size)
    clip = (3, data.frames, *size)
    facts = network_description(net, clip)
    if as_json:
        print(to_json(facts, indent=2))
        return 0
    heading = (
        f"{config.backbone}, {counts(people, 'person')}; tracklet (channels, T, H, W) = {clip}"
    )
    if not net.over_time:
        heading += "\nlayers of the trunk see single frames: their output is (C, H, W)"
    print(table(heading, layer_rows(net, _layers(net), clip), facts))
    return 0


def network_description(net: TrackletNet, clip: tuple[int, ...]) -> dict[str, Any]:
    """Facts as of ``video-snl describe``, with ``people`` and ``feature_dim``, in evaluation mode.

    Blocks have the positions they were inserted at; that of the head ``nonlocal3d`` is ``head``.
    """
    net.eval()
    blocks = inserted_blocks(net.trunk)
    if isinstance(net.head, NonlocalHead):
        blocks["head"] = net.head.block
    facts = description(net, clip, blocks)
    return {**facts, "people": net.num_people, "feature_dim": net.feature_dim}


def people_count(config: ReidDataConfig) -> int:
    """Number of people of the training list, looking at no data where that is possible.

    100 stand in for those of a ``folder`` without a root.

    Raises:
        UserError: as for :func:`~reid.data.datasets.catalog.load_dataset`.
    """
    published = DATASETS[config.dataset].published
    if published is not None:
        return published.parts["train"].people
    if config.root is None and config.dataset == "folder":
        return _STAND_IN
    if config.root is None:
        from reid.data.synthetic.sample import SampleSettings

        return SampleSettings().train_people
    return len(labels_of(load_dataset(config.dataset, config.root, config.split).train))


def _layers(net: TrackletNet) -> list[tuple[str, nn.Module]]:
    parts = net.trunk.get_submodule("blocks") if net.over_time else net.trunk
    trunk = [
        (f"blocks.{name}" if net.over_time else name, module)
        for name, module in parts.named_children()
        if next(module.parameters(), None) is not None
    ]
    rest = {"head": net.head, "neck": net.neck, "classifier": net.classifier}
    return [*trunk, *((name, module) for name, module in rest.items())]
