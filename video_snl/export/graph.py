"""Graph of a network to export: norms folded in, free of the sizes it was made with.

Needs torch 2.9 or newer.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic_shapes
from torch.nn.utils.fusion import fuse_conv_bn_weights

from video_snl.blocks import NonlocalBlock

__all__ = ["axis_names", "exported_graph", "fold_batch_norms", "prepared"]

_CONVOLUTIONS = frozenset(
    overload
    for packet in (torch.ops.aten.conv1d, torch.ops.aten.conv2d, torch.ops.aten.conv3d)
    for overload in (packet.default, packet.padding)
)
_GLOBAL_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def exported_graph(
    network: nn.Module, example: Tensor, least: Mapping[int, int], *lengths: Tensor
) -> ExportedProgram:
    """Record a network in evaluation mode, with BatchNorms folded and blocks fused.

    An affinity is applied by its factors in it, whatever the sizes (``prefers_dense``).

    Args:
        network: Is not changed.
        example: An input; its values do not matter, and its sizes only where they are not free. A
            free axis should not shrink to a single position within the network.
        least: The free axes of the input, and the smallest size of each.
        lengths: Further arguments of the network, whose only axis is the batch.

    Raises:
        Exception: of many kinds, where torch cannot record the network with these axes free.
    """
    names = axis_names(example.ndim, pixels=example.dtype == torch.uint8)
    axes = {axis: Dim(names[axis], min=size) for axis, size in least.items()}
    batch = {axis: size for axis, size in axes.items() if axis == 0}
    export = functools.partial(
        torch.export.export,
        args=(example, *lengths),
        dynamic_shapes=(axes, *[batch for _ in lengths]) if axes else None,
    )
    # Oblivious: a size of 1 is one like any other, and needs no graph of its own.
    oblivious: Any = symbolic_shapes
    with torch.no_grad(), oblivious.patch(backed_size_oblivious=True):
        traced = export(prepared(network)).module(check_guards=False)
        assert isinstance(traced, fx.GraphModule)
        program = export(fold_batch_norms(traced))
    program.example_inputs = None  # which would be saved with it
    return program


def prepared(network: nn.Module) -> nn.Module:
    """Return a copy whose blocks are fused and whose global pooling is a mean, which is the same.

    torch records of an adaptive pooling how many clips a batch had: one, or more.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        if isinstance(module, NonlocalBlock):
            module.fuse()
        for child_name, child in module.named_children():
            if isinstance(child, _GLOBAL_POOLS) and _is_global(child.output_size):
                setattr(module, child_name, _Mean())
    return network


def fold_batch_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold every BatchNorm that alone follows a convolution into its weights, in place.

    w' = w g / s, b' = (b - m) g / s + c for a norm of mean m, weight g, bias c and deviation s. In
    a recorded graph it is certain what follows what; others (of PreResNets, before a ReLU) stay.
    """
    for norm in list(graph.graph.nodes):
        if norm.target is not torch.ops.aten.batch_norm.default:
            continue
        convolution = norm.args[0]
        if convolution.target in _CONVOLUTIONS and len(convolution.users) == 1:
            _fold(graph, convolution, norm)
    graph.graph.eliminate_dead_code()
    _drop_unused(graph)
    graph.recompile()
    return graph


def _fold(graph: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> None:
    x, weight, bias = (*convolution.args[:3], None)[:3]
    _, scale, shift, mean, variance, training, _, eps, _ = norm.args
    if training or mean is None:
        return
    values = [_value(graph, node) for node in (weight, bias, mean, variance)]
    # Its types know of no convolution without a bias.
    fuse: Any = fuse_conv_bn_weights
    folded = fuse(*values, eps, _value(graph, scale), _value(graph, shift))
    with graph.graph.inserting_before(convolution):
        names = (f"{convolution.name}_{what}" for what in ("weight", "bias"))
        nodes = [_parameter(graph, *found) for found in zip(names, folded, strict=True)]
    convolution.args = (x, *nodes, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    graph.graph.erase_node(norm)


def _value(graph: fx.GraphModule, node: Any) -> Any:
    """Return the tensor that a node stands for."""
    return None if node is None else functools.reduce(getattr, str(node.target).split("."), graph)


def _parameter(graph: fx.GraphModule, name: str, value: nn.Parameter) -> fx.Node:
    graph.register_parameter(name, value)
    return graph.graph.get_attr(name)


def _drop_unused(graph: fx.GraphModule) -> None:
    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*graph.named_parameters(), *graph.named_buffers())]:
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(graph.get_submodule(owner), attribute)


def axis_names(ndim: int, *, pixels: bool = False) -> tuple[str, ...]:
    """Return the names of the axes of clips (5) or images (4); of pixels, channels come last."""
    grid = ("frames", "height", "width")[5 - ndim :]
    return ("batch", *grid, "channels") if pixels else ("batch", "channels", *grid)


def _is_global(size: Any) -> bool:
    return size == 1 or (isinstance(size, tuple) and set(size) == {1})


class _Mean(nn.Module):
    """Over all positions, which stay as axes of length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(list(range(2, x.ndim)), keepdim=True)
