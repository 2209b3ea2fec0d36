"""A network's graph, free of as many sizes as torch can record."""

from __future__ import annotations

from torch import nn
from torch.export import ExportedProgram

from video_snl.errors import UserError
from video_snl.export.graph import exported_graph
from video_snl.export.inputs import Input

__all__ = ["recorded"]

_NOT_FREE = "Constraints violated"


def recorded(network: nn.Module, given: Input) -> tuple[ExportedProgram, Input]:
    """The graph as of :func:`exported_graph`, and the input that it takes.

    Of some blocks (GroupNorm, products of lines) torch records that a map is longer than one
    position, as it may not be for the least sizes: their graphs take the sizes of the training and
    larger ones.

    Raises:
        UserError: torch cannot record the network with these axes free.
    """
    try:
        return exported_graph(network, given.example(), given.least()), given
    except Exception as error:  # of many kinds; it stays attached as the cause
        larger = given.from_trained_sizes()
        if larger != given and _NOT_FREE in str(error):
            return recorded(network, larger)
        free = ", ".join(given.free) or "none"
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"torch.export cannot record this network with these free axes ({free}): "
            f"{type(error).__name__}: {line.strip()[:200]}; try fewer, such as --dynamic batch."
        ) from error
