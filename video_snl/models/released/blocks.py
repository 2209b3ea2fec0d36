"""Blocks of the code that the paper's authors released (SNL_ICCV2021), from their state dicts.

They differ from the blocks of :mod:`video_snl.blocks.zoo`, which follow each block's own paper: a
ReLU stands behind the BatchNorm, and some affinities and filters are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from video_snl.blocks import zoo
from video_snl.blocks.block import BlockConfig, NonlocalBlock
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.kernels import AffinitySpec, Kernel, pair_kernel
from video_snl.blocks.operators import Affinity
from video_snl.models.released.reference_dnl import DisentangledStage, PlainDisentangled
from video_snl.models.released.state_dicts import KINDS, Kind, Tensors, check_block, recognized

__all__ = ["AffinityName", "load_reference_block", "reference_block"]

AffinityName = Literal["softmax", "relu", "relu_sym"]
Sign = Literal["+", "-"]

_FIRST_POWER = partial(Polynomial.powers, 1)
_GRAPHS: dict[AffinityName, BlockConfig] = {
    "softmax": BlockConfig(pair_kernel("embedded_gaussian"), _FIRST_POWER, normalization="rw"),
    "relu": BlockConfig(pair_kernel("relu_dot"), _FIRST_POWER),
    "relu_sym": BlockConfig(
        pair_kernel("relu_dot"), _FIRST_POWER, symmetric=True, normalization="sym"
    ),
}
# The usual affinity, and a row of coefficients of the powers of A for each term of the filter, as
# Polynomial takes them. Blocks that are not here have an affinity and a filter of their own.
_STAGES: dict[Kind, tuple[AffinityName, list[list[float]]]] = {
    "nl": ("softmax", [[0, 1]]),
    "ns": ("softmax", [[1, -1]]),
    "dnl": ("softmax", [[0, 1]]),
    "a2": ("relu", [[0, 1]]),
    "snl": ("relu_sym", [[1], [0, 1]]),
    "cayley": ("relu_sym", [[1], [1, -2, 1]]),  # Z and (I - A)^2 Z
}


def load_reference_block(
    state_dict: Mapping[str, Any],
    kind: Kind | None = None,
    ndim: int = 2,
    *,
    affinity: AffinityName | None = None,
    sign: Sign = "+",
) -> nn.Module:
    """The block of a state dict of the released code, in evaluation mode.

    With Z = X W_g, and A made of T = X W_t and P = X W_p of the first unit's input, a unit returns
    X + relu(BatchNorm(F)); several units are chained.

    ======  ====================================  ===========  =================================
    kind    F                                     told by      affinity, if none is given
    ======  ====================================  ===========  =================================
    snl     Z W_1 + A Z W_2, or - (``sign``)      w_1          ``relu_sym``
    nl, a2  A Z W_2                               not at all   nl ``softmax``, a2 ``relu``
    ns      (Z - A Z) W_2                         not at all   ``softmax``
    dnl     (A Z + 1 softmax(X w_m)^T Z) W_2      w_m          ``softmax``
    cayley  Z (W_1 + W_h W_2) + (I - A)^2 Z W_2   w_h          ``relu_sym``
    cgnl    A Z W_z, GroupNorm, no ReLU           gn           Taylor, order 2, gamma 1e-4, only
    cc      gamma (A X W_v + b_v), no norm        query_conv   softmax over the cross, only
    ======  ====================================  ===========  =================================

    With M = relu(T) relu(P)^T and M' = (M + M^T) / 2, ``relu`` is M, not normalised, and
    ``relu_sym`` D^-1/2 M' D^-1/2 with rows of degree zero being zero: the one of the released
    PreResNet for all of them. ``softmax`` is that of the rows of T P^T, without a scale.

    A result is a :class:`NonlocalBlock`; several CC blocks are a Sequential of them, and several
    DNL units a :class:`DisentangledStage`. The products gamma W_v and W_h W_2 are multiplied out.

    Args:
        state_dict: tensors by name, with or without DataParallel's ``module.``.
        kind: needed where the keys do not tell it.
        ndim: 2, or 3 to use the weights on (T, H, W) grids, or 1.
        affinity: that of the network the weights were trained in.
        sign: of A Z W_2 in snl: ``"-"`` for weights of the segmentation head.

    Shapes:
        (B, C, H, W) -> (B, C, H, W) for ndim 2, as :class:`NonlocalBlock`.

    Raises:
        StateDictError: (a ValueError) naming unknown, missing and misshapen tensors.
        ValueError: for an unknown kind, ndim, affinity or sign, an affinity or sign with a kind
            that has none to choose, or no kind with the keys of nl, ns and a2.
    """
    return reference_block(Tensors.of(state_dict), kind, ndim, affinity, sign)


def reference_block(
    tensors: Tensors,
    kind: Kind | None = None,
    ndim: int = 2,
    affinity: AffinityName | None = None,
    sign: Sign = "+",
) -> nn.Module:
    """:func:`load_reference_block` of tensors that may be a part of a file."""
    kind = recognized(tensors) if kind is None else kind
    _check_options(kind, ndim, affinity, sign)
    check_block(tensors, kind)
    if kind == "cc":
        return _criss_cross(tensors, ndim).eval()
    if kind == "cgnl":
        return _generalized(tensors, ndim).eval()
    graph = _GRAPHS[affinity or _STAGES[kind][0]]
    units = [tensors.below(f"stages.{i}.") for i in range(tensors.numbered("stages."))]
    if kind == "dnl" and len(units) > 1:
        return _disentangled(tensors, units, ndim, graph).eval()
    return _stage(tensors, units, kind, ndim, graph, sign).eval()


def _check_options(kind: Kind, ndim: int, affinity: str | None, sign: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; choose from: {', '.join(KINDS)}.")
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    if affinity not in (None, *_GRAPHS):
        raise ValueError(f"affinity={affinity!r} is unknown; choose from: {', '.join(_GRAPHS)}.")
    if affinity is not None and kind not in _STAGES:
        raise ValueError(f"affinity={affinity!r} with kind={kind!r}, which has only its own.")
    if sign not in get_args(Sign):
        raise ValueError(f"sign={sign!r} is unknown; choose '+' or '-'.")
    if sign == "-" and kind != "snl":
        raise ValueError(f"sign='-' with kind={kind!r}: only snl was released with either sign.")


@dataclass(frozen=True)
class Widened(Kernel):
    """A kernel of pairs with embeddings of a ``width`` of their own, whatever Z has."""

    pair: Kernel
    width: int

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return self.width, self.width

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        return self.pair.affinity(embedded, spec)


def _stage(
    tensors: Tensors,
    units: Sequence[Tensors],
    kind: Kind,
    ndim: int,
    graph: BlockConfig,
    sign: Sign,
) -> NonlocalBlock:
    width, channels = tensors.convolution("t.weight")
    transferred, _ = units[0].convolution("g.weight")
    kernel = graph.kernel if transferred == width else Widened(graph.kernel, width)
    kernel = PlainDisentangled(kernel) if kind == "dnl" else kernel
    coefficients = _STAGES[kind][1] if sign == "+" else [[1], [0, -1]]
    block = NonlocalBlock(
        channels,
        transferred,
        ndim=ndim,
        config=replace(graph, kernel=kernel, filter=partial(Polynomial, coefficients)),
        num_units=len(units),
        zero_init=False,
        activation="relu",
    )
    projections = [tensors["t.weight"], tensors["p.weight"]]
    projections += [units[0]["w_m.weight"]] if kind == "dnl" else []
    state = {"project.weight": torch.cat([*projections, units[0]["g.weight"]])}
    for number, unit in enumerate(units):
        state |= _unit_state(unit, kind, number, transfer=number > 0)
    _fill(block, state)
    return block


def _disentangled(
    tensors: Tensors, units: Sequence[Tensors], ndim: int, graph: BlockConfig
) -> DisentangledStage:
    width, channels = tensors.convolution("t.weight")
    stage = DisentangledStage(channels, width, ndim=ndim, config=graph, num_units=len(units))
    state = {"project.weight": torch.cat([tensors["t.weight"], tensors["p.weight"]])}
    for number, unit in enumerate(units):
        state[f"signals.{number}.weight"] = torch.cat([unit["g.weight"], unit["w_m.weight"]])
        state |= _unit_state(unit, "dnl", number, transfer=False)
    _fill(stage, state)
    return stage


def _unit_state(unit: Tensors, kind: Kind, number: int, *, transfer: bool) -> dict[str, Tensor]:
    """The tensors of a released unit under the names of :class:`SubBlock`."""
    weight = unit["w_2.weight"]
    if kind == "snl":
        weight = torch.cat([unit["w_1.weight"], weight], 1)
    elif kind == "cayley":
        inner = weight.flatten(1).double() @ unit["w_h.weight"].flatten(1).double()
        weight = torch.cat([unit["w_1.weight"] + inner[..., None, None], weight], 1)
    state = {"combine.weight": weight}
    state |= {f"norm.{name}": value for name, value in unit.below("bn.").named.items()}
    state |= {"transfer.weight": unit["g.weight"]} if transfer else {}
    return {f"units.{number}.{name}": value for name, value in state.items()}


def _generalized(tensors: Tensors, ndim: int) -> NonlocalBlock:
    width, channels = tensors.convolution("t.weight")
    _, per_group = tensors.convolution("z.weight")
    config = zoo.cgnl(groups=width // per_group, order=2, gamma=1e-4, normalization=None)
    block = NonlocalBlock(channels, width, ndim=ndim, config=config, zero_init=False)
    state = {
        "project.weight": torch.cat([tensors[f"{name}.weight"] for name in "tpg"]),
        "units.0.combine.weight": tensors["z.weight"],
        "units.0.norm.weight": tensors["gn.weight"],
        "units.0.norm.bias": tensors["gn.bias"],
    }
    _fill(block, state)
    return block


def _criss_cross(tensors: Tensors, ndim: int) -> nn.Module:
    parts = [tensors.below(f"{number}.") for number in range(tensors.numbered())] or [tensors]
    blocks = [_one_criss_cross(part, ndim) for part in parts]
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def _one_criss_cross(tensors: Tensors, ndim: int) -> NonlocalBlock:
    width, channels = tensors.convolution("query_conv.weight")
    block = NonlocalBlock(channels, width, ndim=ndim, config=zoo.cc(), zero_init=False)
    unit = block.sub_blocks[0]
    # Biases and no norm. A's rows sum to 1, so that the value's bias goes through it unchanged.
    unit.norm = nn.Identity()
    block.project.bias = nn.Parameter(torch.empty(2 * width))
    unit.combine.bias = nn.Parameter(torch.empty(channels))
    state = {}
    for part in ("weight", "bias"):
        embeddings = [tensors[f"{name}_conv.{part}"] for name in ("query", "key")]
        state[f"project.{part}"] = torch.cat(embeddings)
        state[f"units.0.combine.{part}"] = tensors["gamma"] * tensors[f"value_conv.{part}"]
    _fill(block, state)
    return block


def _fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load these tensors, of which 1x1 convolutions take the axes that the module has."""
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    module.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
