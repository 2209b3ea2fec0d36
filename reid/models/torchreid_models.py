"""Networks of torchreid that can be backbones of frames: those with feature maps."""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from typing import Any

import torch
from torch import nn

from video_snl.errors import UserError

__all__ = ["EMBEDDING", "MODELS", "torchreid_backbone", "torchreid_network"]

EMBEDDING = "fc"
"""Layer of many of its networks from the pooled map of an image to the vector that is compared."""

# Those of torchreid 0.2.5's models whose ``featuremaps`` returns one tensor. Not among them are
# densenet*, inceptionv4, nasnsetmobile, shufflenet, squeezenet*, hacnn and mlfn (no such method)
# and resnet50mid (three tensors). Its resnet50 is torchvision's with stride 2, which ours replaces.
MODELS: tuple[str, ...] = (
    "osnet_x1_0",
    "osnet_x0_75",
    "osnet_x0_5",
    "osnet_x0_25",
    "osnet_ibn_x1_0",
    "osnet_ain_x1_0",
    "osnet_ain_x0_75",
    "osnet_ain_x0_5",
    "osnet_ain_x0_25",
    "resnet18",
    "resnet34",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnet50_fc512",
    "resnet50_ibn_a",
    "resnet50_ibn_b",
    "se_resnet50",
    "se_resnet50_fc512",
    "se_resnet101",
    "se_resnext50_32x4d",
    "se_resnext101_32x4d",
    "pcb_p6",
    "pcb_p4",
    "mobilenetv2_x1_0",
    "mobilenetv2_x1_4",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "mudeep",
    "xception",
    "inceptionresnetv2",
)

# What is known of networks by their names and the sizes of frames: computing shapes takes longer
# than building a network, of which training and evaluation may build several.
_PROBED: dict[tuple[str, tuple[int, int]], tuple[int, set[str]]] = {}


def torchreid_network(name: str, *, pretrained: bool = False) -> nn.Module:
    """Build torchreid's own network with a classifier of 1000 classes; it prints to stderr."""
    # torchreid takes seconds to import, and warns of its ranking in Cython, which is not used here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchreid.reid.models import build_model
    with contextlib.redirect_stdout(sys.stderr):
        return build_model(name, 1000, loss="softmax", pretrained=pretrained, use_gpu=False)


def torchreid_backbone(
    name: str, size: tuple[int, int], *, embeds: bool = False
) -> tuple[nn.Module, int, tuple[str, ...]]:
    """Build a network of torchreid without what comes after its feature map.

    Args:
        embeds: Keep the embedding layer :data:`EMBEDDING`, if it has one.

    Returns:
        The network, the channels of its feature map (or of its embedding layer, if that is kept),
        and the names of the parts left out.

    Raises:
        UserError: It cannot take frames of ``size`` (H, W).
    """
    network = torchreid_network(name)
    try:
        if (name, size) not in _PROBED:
            _PROBED[name, size] = _probe(network, size)
    # From a convolution or a pooling whose input is smaller than its window.
    except RuntimeError as error:
        raise UserError(
            f"backbone {name} cannot take frames of {size[0]} x {size[1]} pixels "
            f"({str(error).splitlines()[0].rstrip('.')}); raise data.height and data.width."
        ) from error
    channels, used = _PROBED[name, size]
    kept = used | {EMBEDDING} if embeds else used
    left_out = tuple(child for child, _ in network.named_children() if child not in kept)
    for child in left_out:
        delattr(network, child)
    if embeds:
        channels = int(network.feature_dim)  # type: ignore[arg-type]
    return network, channels, left_out


def _probe(network: nn.Module, size: tuple[int, int]) -> tuple[int, set[str]]:
    """Return the channels of the feature map, and the children that ``featuremaps`` calls."""
    probe = _without_data(network)
    used: set[str] = set()
    for name, child in probe.named_children():
        for module in child.modules():
            module.register_forward_pre_hook(lambda *_, at=name: used.add(at))
    frame = torch.zeros(1, 3, *size, device="meta")
    return probe.featuremaps(frame).shape[1], used  # type: ignore[operator]


def _without_data(network: nn.Module) -> nn.Module:
    """Copy a network to the meta device, in evaluation mode: it computes shapes alone."""
    on_meta: dict[int, Any] = {id(t): t.to("meta") for t in network.buffers()}
    for p in network.parameters():
        on_meta[id(p)] = nn.Parameter(p.detach().to("meta"), requires_grad=False)
    return copy.deepcopy(network, on_meta).eval()
