"""Blocks in the form of the code that the paper's authors released (SNL_ICCV2021).

They differ from the blocks of :mod:`video_snl.blocks.zoo`, which follow each block's own paper: a
ReLU follows the BatchNorm, and some affinities and filters are others.
:func:`load_reference_block` makes one from a state dict alone; :class:`ReleasedBlock` is the
description that a configuration has of them, to build new ones, store them and fill them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from video_snl.blocks import zoo
from video_snl.blocks.block import BlockConfig, NonlocalBlock, Pointwise, SubBlock
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.kernels import AffinitySpec, Kernel, pair_kernel
from video_snl.blocks.layers import check_feature_map
from video_snl.blocks.operators import Affinity, LowRank, Sum
from video_snl.config.backbones import AffinityName, Sign
from video_snl.models.released.state_dicts import (
    KINDS,
    Kind,
    Tensors,
    block_kind,
    block_shapes,
    check_block,
)

__all__ = ["DisentangledStage", "ReleasedBlock", "load_reference_block", "reference_block"]

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
_WITHOUT_RELU = ("cgnl", "cc")


def load_reference_block(
    state_dict: Mapping[str, Any],
    kind: Kind | None = None,
    ndim: int = 2,
    *,
    affinity: AffinityName | None = None,
    sign: Sign = "+",
) -> nn.Module:
    """Build the block of a state dict of the released code, in evaluation mode.

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
        affinity: affinity of the network the weights were trained in.
        sign: sign of A Z W_2 in snl: ``"-"`` for weights of the segmentation head.

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
    """Build a block as :func:`load_reference_block`, from tensors that may be a part of a file."""
    kind = block_kind(tensors, kind)
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
class ReleasedBlock:
    """Description of a released block, as :func:`load_reference_block` has them.

    Args:
        kind: ``snl``, ``nl``, ``ns``, ``dnl``, ``a2``, ``cayley``, ``cgnl`` or ``cc``.
        affinity: ``softmax``, ``relu`` or ``relu_sym``; None for the kind's own.
        sign: sign of A Z W_2 in ``snl``.
        groups: number of groups in ``cgnl``.

    Raises:
        ValueError: for an unknown kind or groups below 1.
    """

    kind: Kind = "snl"
    affinity: AffinityName | None = None
    sign: Sign = "+"
    groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is unknown; choose from: {', '.join(KINDS)}.")
        if self.groups < 1 or (self.groups > 1 and self.kind != "cgnl"):
            raise ValueError(f"groups={self.groups}: cgnl has groups, at least 1 of them.")

    @classmethod
    def of(
        cls, options: dict[str, Any], affinity: AffinityName | None = None, sign: Sign = "+"
    ) -> ReleasedBlock:
        """Take the options of a block, and what is usual in a network.

        Raises:
            ValueError: for options that a released block does not have.
        """
        unknown = sorted(options.keys() - {"kind", "affinity", "sign", "groups"})
        if unknown:
            raise ValueError(
                f"block='released' has no option {', '.join(unknown)}; it has: kind, affinity, "
                "sign, groups."
            )
        kind = options.get("kind", "snl")
        usual: dict[str, Any] = {} if kind in _WITHOUT_RELU else {"affinity": affinity}
        usual |= {"sign": sign} if kind == "snl" else {}
        return cls(**{**usual, **options})

    def build(
        self,
        in_channels: int,
        *,
        ndim: int,
        inter_channels: int | None = None,
        num_units: int = 1,
        zero_init: bool = False,
        activation: Literal["relu"] | None = "relu",
    ) -> nn.Module:
        """Build a new block: convolutions start as in arXiv:1502.01852, norms as the identity.

        ``inter_channels`` is the number of embedded channels, by default half of ``in_channels``,
        an eighth for ``cc``, which starts as the identity. ``num_units`` of ``cc`` are applied one
        after the other, of the other kinds they share an affinity.

        Raises:
            ValueError: for another start or activation than the released one, or sizes below 1.
        """
        wanted = None if self.kind in _WITHOUT_RELU else "relu"
        if zero_init or activation != wanted:
            raise ValueError(
                f"block='released' of kind {self.kind!r} has zero_init=False and "
                f"activation={wanted!r}; found {zero_init} and {activation!r}: give those, or "
                f"choose block {self.kind!r}."
            )
        part = 8 if self.kind == "cc" else 2
        width = in_channels // part if inter_channels is None else inter_channels
        least = 2 if self.kind == "cayley" else 1
        if width < least or num_units < 1 or width % self.groups or in_channels % self.groups:
            raise ValueError(
                f"inter_channels={width}, num_units={num_units} and groups={self.groups} with "
                f"{in_channels} channels: sizes are at least {least}, and groups divide both."
            )
        shapes = self._shapes(in_channels, width, num_units)
        tensors = Tensors({name: _initial(name, shape) for name, shape in shapes.items()})
        return self.filled(tensors, ndim).train()

    def filled(self, tensors: Tensors, ndim: int = 2) -> nn.Module:
        """Build the block of a part of a released file.

        Raises:
            StateDictError, ValueError: as for :func:`load_reference_block`.
        """
        return reference_block(tensors, self.kind, ndim, self.affinity, self.sign)

    def _shapes(self, channels: int, width: int, units: int) -> dict[str, tuple[int, ...]]:
        """Return names and shapes, from the few tensors that tell the sizes."""
        one = torch.empty(1)
        if self.kind == "cc":
            queries = {f"{i}.query_conv.weight": (width, channels, 1, 1) for i in range(units)}
            return block_shapes(Tensors({n: torch.empty(s) for n, s in queries.items()}), "cc")
        telling = {"t.weight": torch.empty(width, channels, 1, 1)}
        if self.kind == "cgnl":
            if units > 1:
                raise ValueError(f"num_units={units}: a released cgnl block has one.")
            telling["z.weight"] = torch.empty(channels, width // self.groups, 1, 1)
        telling |= {f"stages.{i}.g.weight": one for i in range(units)}
        return block_shapes(Tensors(telling), self.kind)


@dataclass(frozen=True)
class Widened(Kernel):
    """A kernel of pairs whose embeddings have a ``width`` of their own, whatever Z has."""

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
    """Return the tensors of a released unit under the names of :class:`SubBlock`."""
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


@dataclass(frozen=True)
class PlainDisentangled(Kernel):
    """A kernel of pairs plus a unary softmax, with A_ij = pair_ij + softmax_j(m_j).

    Nothing is whitened; ``symmetric`` and ``normalization`` are those of the pairs alone.
    """

    pair: Kernel

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return inter_channels, inter_channels, 1

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        pair = self.pair.affinity(embedded[..., :-1], spec)
        return Sum([pair, _unary(embedded[..., -1:])])


def _unary(scores: Tensor) -> LowRank:
    """Compute A_ij = softmax_j(m_j). Shape: scores (B, N, 1)."""
    salience = scores.softmax(1)
    return LowRank(torch.ones_like(salience), salience)


class DisentangledStage(nn.Module):
    """Units X + relu(norm((A + 1 softmax(X w_m)^T) Z W)) that share the A of the first one's input.

    The unary softmax is each unit's own, of its own input, so that no affinity is common to all.

    Shapes:
        x: (B, C, *grid) with ``ndim`` axes; the output has x's shape.
    """

    ndim: int | None = None  # in modules that version 0.2 pickled

    def __init__(
        self,
        in_channels: int,
        inter_channels: int,
        *,
        ndim: int,
        config: BlockConfig,
        num_units: int,
    ) -> None:
        super().__init__()
        self.ndim, self.config = ndim, config
        self.project = Pointwise(in_channels, 2 * inter_channels)
        # Z and the scores of the unary softmax, side by side.
        self.signals = nn.ModuleList(
            Pointwise(in_channels, inter_channels + 1) for _ in range(num_units)
        )
        self.units = nn.ModuleList(
            SubBlock(
                in_channels,
                inter_channels,
                ndim=ndim,
                terms=1,
                transfer=False,
                config=config,
                zero_init=False,
                activation="relu",
            )
            for _ in range(num_units)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.ndim is not None:
            check_feature_map(x, self.project.in_features, self.ndim, self.project)
        spec = AffinitySpec(tuple(x.shape[2:]), self.config.symmetric, self.config.normalization)
        pair = self.config.kernel.affinity(self.project(x.flatten(2).mT), spec)
        for unit, signal in zip(self.units, self.signals, strict=True):
            projected = signal(x.flatten(2).mT)
            affinity = Sum([pair, _unary(projected[..., -1:])])
            x = unit(x, affinity.matmul(projected[..., :-1]))
        return x


def _initial(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if len(shape) == 4:
        weight = torch.empty(shape)
        if not weight.is_meta:
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        return weight
    one = name.endswith("running_var") or name.endswith((".bn.weight", "gn.weight"))
    return torch.ones(shape) if one else torch.zeros(shape)


def _fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load these tensors, of which 1x1 convolutions take the axes that the module has."""
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    module.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
