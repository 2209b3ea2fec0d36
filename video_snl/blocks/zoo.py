"""The blocks by name. Each nonlocal block is its row of Table 1 of arXiv:2108.02451.

A row is a function from the block's own options to its :class:`BlockConfig`. From it come the
classes of all dimensions, :func:`make_block`, the options of a configuration and the table of
blocks. To add a block, write its row, a line with its classes and a line in ``BLOCKS``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import nn

from video_snl.blocks.block import BlockConfig, NonlocalBlock, Normalization
from video_snl.blocks.filters import Cayley, ChannelGraph, Polynomial, own_filter
from video_snl.blocks.gates import GATES
from video_snl.blocks.kernels import (
    ChannelDot,
    CrissCrossGaussian,
    Disentangled,
    GatherDistribute,
    ReluDot,
    Taylor,
    pair_kernel,
)
from video_snl.blocks.options import NO_OPTIONS, BlockOptions, KernelName, checked_options
from video_snl.blocks.sub_block import Described, NormName
from video_snl.blocks.user_blocks import (
    check_block,
    import_named,
    is_block,
    made_by,
    named,
    own_block,
)

__all__ = ["BLOCKS", "NAMES", "Dimensions", "ZooBlock", "dimensions", "make_block"]

Default = Literal["default"]
_HIGHEST_ORDER = 100  # of a polynomial filter: beyond it is a mistake, and takes forever


class ZooBlock(NonlocalBlock):
    """Base of the zoo's classes, one for each row and number of axes.

    Arguments, shapes and errors are those of :class:`NonlocalBlock`; ``options`` are the row's.
    ``ndim`` may be left out, and is an error where it is not the class's own: so that
    ``insert_blocks`` takes a class as it is.
    """

    row: ClassVar[Callable[..., BlockConfig]]
    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        *,
        ndim: int | None = None,
        num_units: int = 1,
        zero_init: bool = True,
        activation: Literal["relu"] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[BlockOptions],
    ) -> None:
        if ndim not in (None, self.axes):
            raise ValueError(f"{type(self).__name__} in a network of {ndim} axes, not {self.axes}.")
        row = type(self).row
        checked = checked_options(row.__name__, row, options, common=_every_row)
        super().__init__(
            in_channels,
            inter_channels,
            ndim=self.axes,
            config=_config(row, checked),
            num_units=num_units,
            zero_init=zero_init,
            activation=activation,
            device=device,
            dtype=dtype,
        )
        self.description = {
            "name": row.__name__,
            "in_channels": in_channels,
            "ndim": self.axes,
            "inter_channels": self.inter_channels,
            "num_units": num_units,
            "activation": activation,
            **self._options(checked),
        }

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options of the row, in the one form that they have in equal blocks."""
        config, options = self.config, {**_defaults(type(self).row), **given}
        if "normalization" in options:  # "default" is one of the others
            options["normalization"] = config.normalization
        if "descriptors" in options:
            options["descriptors"] = self.widths[0]
        options["bias"] = ",".join(name for name in config.biases if name in config.bias)
        options["norm"], options["norm_groups"] = config.norm, None
        if config.norm == "group":
            options["norm_groups"] = config.norm_groups or config.groups
        return options


Dimensions = tuple[type[ZooBlock], type[ZooBlock], type[ZooBlock]]


def dimensions(name: str, row: Callable[..., BlockConfig]) -> Dimensions:
    """Make the classes of a row, to be bound to ``name`` 1d, 2d and 3d in its module."""

    def make(ndim: int) -> type[ZooBlock]:
        members = {"row": staticmethod(row), "axes": ndim, "__module__": row.__module__}
        return type(f"{name}{ndim}d", (ZooBlock,), {**members, "__doc__": row.__doc__})

    return make(1), make(2), make(3)


def _every_row(
    *, bias: str = "", norm: NormName | None = None, norm_groups: int | None = None
) -> dict[str, Any]:
    """Return the fields of a config that every row takes as options; None keeps the row's."""
    found: dict[str, Any] = {}
    if bias:
        found["bias"] = tuple(name.strip() for name in bias.split(",") if name.strip())
    if norm is not None:
        found["norm"] = norm
    if norm_groups is not None:
        found["norm_groups"] = norm_groups
    return found


def _config(row: Callable[..., BlockConfig], options: Mapping[str, Any]) -> BlockConfig:
    """Return the row with its own options and those of every row."""
    common = {name: value for name, value in options.items() if name in _defaults(_every_row)}
    config = row(**{name: value for name, value in options.items() if name not in common})
    fields = _every_row(**common)
    if fields.get("bias") == ("all",):
        fields["bias"] = config.biases
    return replace(config, **fields)


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a function, with the values that they have where none are given."""
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


def nl(
    *,
    kernel: KernelName | str = "embedded_gaussian",
    normalization: Normalization | Default | None = "default",
    scaled: bool = False,
    pool: int = 1,
    pool_first: bool = False,
    ceil_mode: bool = True,
) -> BlockConfig:
    """Nonlocal block: Y = X + norm(A Z W), A = D^-1 M (Wang et al., arXiv:1711.07971).

    Keys and Z may be sub-sampled: ``pool``, before the projection where ``pool_first``.
    """
    return BlockConfig(
        kernel=pair_kernel(kernel, scaled=scaled),
        normalization=_normalization(kernel, normalization),
        filter=partial(Polynomial.powers, 1),
        pool=pool,
        pool_first=pool_first,
        ceil_mode=ceil_mode,
    )


def ns(
    *,
    kernel: KernelName | str = "embedded_gaussian",
    normalization: Normalization | Default | None = "default",
    scaled: bool = False,
) -> BlockConfig:
    """Nonlocal stage: Y = X + norm(Z W - A Z W), A = D^-1 M (Tao et al., arXiv:1806.00681).

    Its ``num_units`` sub-blocks share the affinity made from the input of the first one.
    """
    return BlockConfig(
        kernel=pair_kernel(kernel, scaled=scaled),
        normalization=_normalization(kernel, normalization),
        filter=partial(Polynomial, [[1, -1]]),
    )


def a2(*, descriptors: int | None = None) -> BlockConfig:
    """Double attention: Y = X + norm(A Z W), A = softmax(theta) softmax(phi)^T (arXiv:1810.11579).

    Features are gathered into ``descriptors`` (by default Cs) of Cs channels and distributed to all
    positions (Chen et al., whose c_n and c_m these are).
    """
    if descriptors is not None and descriptors < 1:
        raise ValueError(f"descriptors={descriptors} must be at least 1.")
    return BlockConfig(kernel=GatherDistribute(descriptors), filter=partial(Polynomial.powers, 1))


def cgnl(
    *,
    groups: int = 1,
    order: int = 2,
    gamma: float = 1e-4,
    normalization: Normalization | None = None,
    series: bool = True,
    scaled: bool = False,
) -> BlockConfig:
    """Compact generalized nonlocal block: Y = X + norm(A Z W) (Yue et al., arXiv:1810.13125).

    The graph's vertices are the channels of all positions; its kernel is the Taylor series of a
    radial basis function or, with ``series=False``, the dot product t p; ``scaled`` divides that
    by the square root of the number of vertices. W and the GroupNorm are in ``groups``, as is the
    graph. The authors' code leaves out the division by the degree, and so does the default here.
    """
    if series and scaled:
        raise ValueError("scaled=True is of CGNL's dot product: give series=False, too.")
    kernel = Taylor(order=order, gamma=gamma, groups=groups)
    return BlockConfig(
        kernel=kernel if series else ChannelDot(groups=groups, scaled=scaled),
        normalization=normalization,
        filter=partial(ChannelGraph, groups),
        groups=groups,
        norm="group",
    )


def cc(*, recurrence: int = 1) -> BlockConfig:
    """Criss-cross attention: Y = X + norm(A X W) (Huang et al., arXiv:1811.11721).

    A position sees those it shares a line of the grid with; applied twice, all. ``inter_channels``
    is the width of the embeddings, C // 8 by default. The norm stands for the paper's scalar gamma.
    """
    return BlockConfig(
        kernel=CrissCrossGaussian(),
        filter=partial(Polynomial.powers, 1),
        reduction=8,
        transfer=False,
        recurrence=recurrence,
    )


def dnl(
    *,
    scaled: bool = False,
    temperature: float = 1.0,
    gamma: float | None = None,
    pool: int = 1,
    pool_first: bool = False,
    ceil_mode: bool = True,
) -> BlockConfig:
    """Disentangled nonlocal block: Y = X + norm(A Z W) (Yin et al., arXiv:2006.06668).

    A is the softmax of whitened embeddings plus a softmax over the positions alone. The authors'
    code weighs the former by a learned ``gamma``, which starts at 0; mmsegmentation divides the
    exponents by sqrt(Cs) (``scaled``) and a ``temperature`` of 0.05. The paper has neither, as the
    default here. Keys and Z may be sub-sampled as in NL; the authors' ``downsample`` is
    ``pool=2, pool_first=True``.
    """
    return BlockConfig(
        kernel=Disentangled(scaled, temperature, gamma),
        filter=partial(Polynomial.powers, 1),
        pool=pool,
        pool_first=pool_first,
        ceil_mode=ceil_mode,
    )


def snl(*, kernel: KernelName | str = "relu_dot", scaled: bool = False) -> BlockConfig:
    """Spectral nonlocal block: Y = X + norm(Z W1 + A Z W2), A = D^-1/2 (M + M^T)/2 D^-1/2.

    M_ij = <relu(theta_i), relu(phi_j)>; eq. 13 of arXiv:2108.02451. A is symmetric with spectrum
    in [-1, 1], and is applied exactly at a cost linear in the number of positions.
    """
    return BlockConfig(
        kernel=pair_kernel(kernel, scaled=scaled),
        symmetric=True,
        normalization="sym",
        filter=partial(Polynomial.powers, 0, 1),
    )


def snl_a1() -> BlockConfig:
    """SNL without its Z W1 term: Y = X + norm(A Z W) (arXiv:2108.02451, Table 8)."""
    return BlockConfig(
        kernel=ReluDot(),
        symmetric=True,
        normalization="sym",
        filter=partial(Polynomial.powers, 1),
    )


def snl_a2() -> BlockConfig:
    """SNL without symmetry: Y = X + norm(Z W1 + A Z W2), A = D^-1 M (arXiv:2108.02451, Table 8)."""
    return BlockConfig(
        kernel=ReluDot(), normalization="rw", filter=partial(Polynomial.powers, 0, 1)
    )


def gsnl(
    *,
    order: int = 2,
    kernel: KernelName | str = "relu_dot",
    normalization: Normalization | None = "sym",
    scaled: bool = False,
    filter: str | None = None,
) -> BlockConfig:
    """General spectral block: Y = X + norm(sum_k A^k Z W_k), k = 0 ... ``order``.

    Eq. 12 of arXiv:2108.02451 with SNL's A; order 1 is SNL. ``filter``, the dotted path of a
    subclass of :class:`Filter` that is made with ``order``, has other functions of A than powers.
    """
    if not 0 <= order <= _HIGHEST_ORDER:
        raise ValueError(f"order={order} must be 0 to {_HIGHEST_ORDER}.")
    return BlockConfig(
        kernel=pair_kernel(kernel, scaled=scaled),
        symmetric=True,
        normalization=normalization,
        filter=(
            partial(Polynomial.powers, *range(order + 1))
            if filter is None
            else own_filter(filter, order)
        ),
    )


def cayley(*, order: int = 1) -> BlockConfig:
    """Spectral block with a Cayley filter of ``order`` complex terms.

    Y = X + norm(Z W_0 + 2 Re sum_j C^j Z W_j), C = (h L - i)(h L + i)^-1, L = I - A with SNL's A
    (Levie et al., arXiv:1705.07664): rational in A, and solved exactly.
    """
    Cayley(order)  # raises for an order out of range
    return BlockConfig(
        kernel=ReluDot(), symmetric=True, normalization="sym", filter=partial(Cayley, order)
    )


NL1d, NL2d, NL3d = dimensions("NL", nl)
NS1d, NS2d, NS3d = dimensions("NS", ns)
A21d, A22d, A23d = dimensions("A2", a2)
CGNL1d, CGNL2d, CGNL3d = dimensions("CGNL", cgnl)
CC1d, CC2d, CC3d = dimensions("CC", cc)
DNL1d, DNL2d, DNL3d = dimensions("DNL", dnl)
SNL1d, SNL2d, SNL3d = dimensions("SNL", snl)
SNL_a1_1d, SNL_a1_2d, SNL_a1_3d = dimensions("SNL_a1_", snl_a1)
SNL_a2_1d, SNL_a2_2d, SNL_a2_3d = dimensions("SNL_a2_", snl_a2)
GSNL1d, GSNL2d, GSNL3d = dimensions("GSNL", gsnl)
CayleySNL1d, CayleySNL2d, CayleySNL3d = dimensions("CayleySNL", cayley)

BLOCKS: dict[str, Dimensions] = {
    "nl": (NL1d, NL2d, NL3d),
    "ns": (NS1d, NS2d, NS3d),
    "a2": (A21d, A22d, A23d),
    "cgnl": (CGNL1d, CGNL2d, CGNL3d),
    "cc": (CC1d, CC2d, CC3d),
    "dnl": (DNL1d, DNL2d, DNL3d),
    "snl": (SNL1d, SNL2d, SNL3d),
    "snl_a1": (SNL_a1_1d, SNL_a1_2d, SNL_a1_3d),
    "snl_a2": (SNL_a2_1d, SNL_a2_2d, SNL_a2_3d),
    "gsnl": (GSNL1d, GSNL2d, GSNL3d),
    "cayley": (CayleySNL1d, CayleySNL2d, CayleySNL3d),
}

NAMES = (*BLOCKS, *GATES)


def make_block(
    name: str | type[nn.Module],
    in_channels: int,
    *,
    ndim: int = 3,
    inter_channels: int | None = None,
    num_units: int = 1,
    zero_init: bool = True,
    activation: Literal["relu"] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[BlockOptions],
) -> nn.Module:
    """Make the block called ``name`` for feature maps of ``in_channels`` channels.

    Args:
        name: one of ``NAMES``; or a block of a user's own, which is
            :class:`~video_snl.blocks.user_blocks.BlockProtocol`: the class, or its dotted path.
        in_channels, ndim, inter_channels, num_units, zero_init, activation: as for
            :class:`NonlocalBlock`.
        device, dtype: of the parameters.
        options: the block's own options, such as ``order`` of ``gsnl``; see :class:`BlockOptions`.

    Raises:
        ValueError: for an unknown name, an ndim beyond 1-3, an option that the block does not have,
            options that exclude each other, or code of a user's own that cannot be imported or does
            not do what is expected of it.
    """
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    common: dict[str, Any] = {
        "inter_channels": inter_channels,
        "num_units": num_units,
        "zero_init": zero_init,
        "activation": activation,
    }
    given: dict[str, Any] = dict(options)
    tried = any("." in str(given.get(option)) for option in _PATHS)
    if not isinstance(name, str) or "." in name:
        block, tried = _own(name, in_channels, ndim, common, given), True
    elif name in BLOCKS:
        block = BLOCKS[name][ndim - 1](in_channels, **common, **given)
    elif name in GATES:
        block = _gate(name, in_channels, ndim, common, given)
    else:
        raise ValueError(
            f"block={name!r} is unknown; choose from: {', '.join(NAMES)}, or a dotted path such as "
            "my_package.MyBlock."
        )
    if tried:
        said = f"block {name if isinstance(name, str) else named(name)}"
        check_block(block, said, in_channels, ndim)
    return block.to(device=device, dtype=dtype)


_PATHS = ("kernel", "filter")  # options that may be dotted paths


def _gate(
    name: str, in_channels: int, ndim: int, common: dict[str, Any], options: dict[str, Any]
) -> nn.Module:
    without = {"inter_channels": None, "num_units": 1, "activation": None}
    foreign = {key: common[key] for key, value in without.items() if common[key] != value}
    checked = checked_options(name, GATES[name].__init__, {**foreign, **options})
    gate = GATES[name](in_channels, ndim=ndim, zero_init=common["zero_init"], **checked)
    own = {key: value for key, value in _defaults(GATES[name]).items() if key not in NO_OPTIONS}
    described = {"name": name, "in_channels": in_channels, "ndim": ndim}
    gate.description = {**described, **own, **checked}
    return gate


def _own(
    name: str | type[nn.Module],
    in_channels: int,
    ndim: int,
    common: dict[str, Any],
    options: dict[str, Any],
) -> nn.Module:
    """Make a block of a user's own."""
    kind: type[nn.Module]
    if isinstance(name, str):
        kind = import_named(name, "block", "a class of torch.nn.Module", is_block)
    elif is_block(name):
        kind = name
    else:
        raise ValueError(f"block={name!r}: expected a class of torch.nn.Module, or a name.")
    if not issubclass(kind, ZooBlock):
        return own_block(kind, in_channels, ndim=ndim, common=common, options=options)
    make = partial(kind, in_channels, ndim=ndim, **common, **options)
    block = made_by(make, f"block {named(kind)}", (SystemExit,))  # the zoo's own errors pass
    if kind not in BLOCKS.get(kind.row.__name__, ()):
        assert isinstance(block, Described) and block.description is not None
        block.description["name"] = name if isinstance(name, str) else named(name)
    return block


def _normalization(kernel: str, how: Normalization | Default | None) -> Normalization | None:
    """Resolve ``"default"``: the random walk, which a dot product of either sign does not have."""
    if how != "default":
        return how
    return None if kernel in ("dot", "concatenation") else "rw"
