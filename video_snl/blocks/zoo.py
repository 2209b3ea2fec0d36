"""The blocks by name. Each nonlocal block is its row of Table 1 of arXiv:2108.02451.

A row is a function from the block's own options to its recipe. From it come the classes of all
dimensions, :func:`make_block`, the options of a configuration and the table of docs/blocks.md.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, Unpack

from torch import nn

from video_snl.blocks.cayley import Cayley
from video_snl.blocks.family import BlockOptions, Dimensions, checked_options, dimensions
from video_snl.blocks.filters import ChannelGraph, Polynomial
from video_snl.blocks.gates import GATES
from video_snl.blocks.kernels import (
    CrissCrossGaussian,
    Disentangled,
    GatherDistribute,
    ReluDot,
    Taylor,
    pair_kernel,
)
from video_snl.blocks.recipe import Normalization, Recipe

KernelName = Literal["relu_dot", "dot", "embedded_gaussian", "gaussian"]
Default = Literal["default"]


def _usual(kernel: str, how: Normalization | Default | None) -> Normalization | None:
    """The random walk, which for a dot product of either sign does not exist."""
    if how != "default":
        return how
    return None if kernel == "dot" else "rw"


def nl(
    *,
    kernel: KernelName = "embedded_gaussian",
    normalization: Normalization | Default | None = "default",
    scaled: bool = False,
    pool: int = 1,
) -> Recipe:
    """Nonlocal block: Y = X + norm(A Z W), A = D^-1 M (Wang et al., arXiv:1711.07971)."""
    return Recipe(
        kernel=pair_kernel(kernel, scaled=scaled),
        normalization=_usual(kernel, normalization),
        filter=partial(Polynomial.powers, 1),
        pool=pool,
    )


def ns(
    *,
    kernel: KernelName = "embedded_gaussian",
    normalization: Normalization | Default | None = "default",
    scaled: bool = False,
) -> Recipe:
    """Nonlocal stage: Y = X + norm(Z W - A Z W), A = D^-1 M (Tao et al., arXiv:1806.00681).

    ``num_units`` units of a stage share the affinity of the first one's input.
    """
    return Recipe(
        kernel=pair_kernel(kernel, scaled=scaled),
        normalization=_usual(kernel, normalization),
        filter=partial(Polynomial, [[1, -1]]),
    )


def a2() -> Recipe:
    """Double attention: Y = X + norm(A Z W), A = softmax(theta) softmax(phi)^T (arXiv:1810.11579).

    Features are gathered into Cs descriptors and distributed to all positions (Chen et al.).
    """
    return Recipe(kernel=GatherDistribute(), filter=partial(Polynomial.powers, 1))


def cgnl(
    *,
    groups: int = 1,
    order: int = 2,
    gamma: float = 1e-4,
    normalization: Normalization | None = None,
) -> Recipe:
    """Compact generalized nonlocal block: Y = X + norm(A Z W) (Yue et al., arXiv:1810.13125).

    The graph's vertices are the channels of all positions; its kernel is the Taylor series of a
    radial basis function. W and the GroupNorm are in ``groups``, as is the graph. The authors' code
    leaves out the division by the degree, and so does the default here.
    """
    return Recipe(
        kernel=Taylor(order=order, gamma=gamma, groups=groups),
        normalization=normalization,
        filter=partial(ChannelGraph, groups),
        groups=groups,
        norm="group",
    )


def cc(*, recurrence: int = 1) -> Recipe:
    """Criss-cross attention: Y = X + norm(A X W) (Huang et al., arXiv:1811.11721).

    A position sees those it shares a line of the grid with; applied twice, all. ``inter_channels``
    is the width of the embeddings, C // 8 by default. The norm stands for the paper's scalar gamma.
    """
    return Recipe(
        kernel=CrissCrossGaussian(),
        filter=partial(Polynomial.powers, 1),
        reduction=8,
        transfer=False,
        recurrence=recurrence,
    )


def dnl(*, scaled: bool = False) -> Recipe:
    """Disentangled nonlocal block: Y = X + norm(A Z W) (Yin et al., arXiv:2006.06668).

    A is the softmax of whitened embeddings plus a softmax over the positions alone.
    """
    return Recipe(kernel=Disentangled(scaled), filter=partial(Polynomial.powers, 1))


def snl(*, kernel: KernelName = "relu_dot", scaled: bool = False) -> Recipe:
    """Spectral nonlocal block: Y = X + norm(Z W1 + A Z W2), A = D^-1/2 (M + M^T)/2 D^-1/2.

    M_ij = <relu(theta_i), relu(phi_j)>; eq. 13 of arXiv:2108.02451. A is symmetric with spectrum
    in [-1, 1], and is applied exactly at a cost linear in the number of positions.
    """
    return Recipe(
        kernel=pair_kernel(kernel, scaled=scaled),
        symmetric=True,
        normalization="sym",
        filter=partial(Polynomial.powers, 0, 1),
    )


def snl_a1() -> Recipe:
    """SNL without its Z W1 term: Y = X + norm(A Z W) (arXiv:2108.02451, Table 8)."""
    return Recipe(
        kernel=ReluDot(),
        symmetric=True,
        normalization="sym",
        filter=partial(Polynomial.powers, 1),
    )


def snl_a2() -> Recipe:
    """SNL without symmetry: Y = X + norm(Z W1 + A Z W2), A = D^-1 M (arXiv:2108.02451, Table 8)."""
    return Recipe(kernel=ReluDot(), normalization="rw", filter=partial(Polynomial.powers, 0, 1))


def gsnl(
    *,
    order: int = 2,
    kernel: KernelName = "relu_dot",
    normalization: Normalization | None = "sym",
    scaled: bool = False,
) -> Recipe:
    """General spectral block: Y = X + norm(sum_k A^k Z W_k), k = 0 ... ``order``.

    Eq. 12 of arXiv:2108.02451 with SNL's A; order 1 is SNL.
    """
    if order < 0:
        raise ValueError(f"order={order} must be at least 0.")
    return Recipe(
        kernel=pair_kernel(kernel, scaled=scaled),
        symmetric=True,
        normalization=normalization,
        filter=partial(Polynomial.powers, *range(order + 1)),
    )


def cayley(*, order: int = 1) -> Recipe:
    """Spectral block with a Cayley filter of ``order`` complex terms.

    Y = X + norm(Z W_0 + 2 Re sum_j C^j Z W_j), C = (h L - i)(h L + i)^-1, L = I - A with SNL's A
    (Levie et al., arXiv:1705.07664): rational in A, and solved exactly.
    """
    Cayley(order)  # says at once what is wrong with an order
    return Recipe(
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
    name: str,
    in_channels: int,
    *,
    ndim: int = 3,
    inter_channels: int | None = None,
    num_units: int = 1,
    zero_init: bool = True,
    activation: Literal["relu"] | None = None,
    **options: Unpack[BlockOptions],
) -> nn.Module:
    """The block called ``name`` for feature maps of ``in_channels`` channels on an ndim-d grid.

    ``options`` are the block's own, such as ``order`` of ``gsnl``; see :mod:`video_snl.blocks.zoo`.

    Raises:
        ValueError: for a name that is not in ``NAMES``, an ndim beyond 1-3, an option that the
            block does not have, or options that exclude each other.
    """
    if name not in NAMES:
        raise ValueError(f"block={name!r} is unknown; choose from: {', '.join(NAMES)}.")
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    if name in GATES:
        without = {"inter_channels": None, "num_units": 1, "activation": None}
        given = {"inter_channels": inter_channels, "num_units": num_units, "activation": activation}
        foreign = {key: value for key, value in given.items() if value != without[key]}
        checked = checked_options(name, GATES[name].__init__, {**foreign, **options})
        return GATES[name](in_channels, ndim=ndim, zero_init=zero_init, **checked)
    return BLOCKS[name][ndim - 1](
        in_channels,
        inter_channels,
        num_units=num_units,
        zero_init=zero_init,
        activation=activation,
        **options,
    )
