"""The blocks by name. Each is its row of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.kernels import relu_dot

__all__ = ["BLOCKS", "SNL1d", "SNL2d", "SNL3d", "make_block"]


class _SNL(NonlocalBlock):
    """Spectral nonlocal block: Y = X + norm(Z W1 + A Z W2), A = D^-1/2 (M + M^T)/2 D^-1/2.

    M_ij = <relu(theta_i), relu(phi_j)>; eq. 13 of arXiv:2108.02451. A is symmetric with spectrum
    in [-1, 1], and is applied exactly at a cost linear in the number of positions.
    Arguments, shapes and errors as in :class:`NonlocalBlock`.
    """

    _ndim: int

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        *,
        zero_init: bool = True,
        activation: Literal["relu"] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            inter_channels,
            ndim=self._ndim,
            kernel=relu_dot,
            symmetric=True,
            normalization="sym",
            filter=Polynomial(powers=(0, 1)),
            zero_init=zero_init,
            activation=activation,
        )


class SNL1d(_SNL):
    __doc__ = _SNL.__doc__
    _ndim = 1


class SNL2d(_SNL):
    __doc__ = _SNL.__doc__
    _ndim = 2


class SNL3d(_SNL):
    __doc__ = _SNL.__doc__
    _ndim = 3


BLOCKS: dict[str, dict[int, Callable[..., NonlocalBlock]]] = {
    "snl": {1: SNL1d, 2: SNL2d, 3: SNL3d},
}


def make_block(
    name: str,
    in_channels: int,
    *,
    ndim: int = 3,
    inter_channels: int | None = None,
    zero_init: bool = True,
    activation: Literal["relu"] | None = None,
) -> NonlocalBlock:
    """The block called ``name`` for feature maps of ``in_channels`` channels on an ndim-d grid.

    Raises:
        ValueError: for a name that is not in ``BLOCKS`` or an ndim beyond 1-3.
    """
    if name not in BLOCKS:
        raise ValueError(f"block={name!r} is unknown; choose from: {', '.join(BLOCKS)}.")
    if ndim not in BLOCKS[name]:
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    return BLOCKS[name][ndim](
        in_channels, inter_channels, zero_init=zero_init, activation=activation
    )
