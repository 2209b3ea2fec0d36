"""The spectrum of an affinity, in float64 and from its thin factors where it has any."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.lowrank import LowRank, SymmetricLowRank
from video_snl.blocks.operators import Affinity

__all__ = [
    "Compressed",
    "Eigenspaces",
    "complex_share",
    "compressed",
    "effective_rank",
    "eigenvalues",
    "solved_size",
    "symmetry_error",
]


@torch.no_grad()
def eigenvalues(affinity: Affinity) -> Tensor:
    """All N eigenvalues of A, by descending real part, zeros included. Shape: (B, N).

    Real where A is symmetric up to the rounding of its dtype, complex otherwise. For factors of
    rank R < N / 2 the matrix solved is 2 R x 2 R, and no N x N one is formed.

    Raises:
        ValueError: for an affinity that is not square.
    """
    return compressed(affinity).eigenvalues()


@torch.no_grad()
def symmetry_error(affinity: Affinity) -> Tensor:
    """||A - A^T||_F / ||A||_F, from 0 to 2; 0 for A = 0. Shape: (B,).

    Raises:
        ValueError: for an affinity that is not square.
    """
    return compressed(affinity).symmetry_error()


def complex_share(eigenvalues: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Share of the eigenvalues with |imag| > tolerance * largest modulus. Shape: (B, N) -> (B,).

    An eigenvalue that is real but defective is computed as a pair some sqrt(eps) = 1.5e-8 apart,
    hence the tolerance.
    """
    if not eigenvalues.is_complex():
        return torch.zeros_like(eigenvalues[..., 0])
    largest = eigenvalues.abs().amax(-1, keepdim=True)
    return (eigenvalues.imag.abs() > tolerance * largest).double().mean(-1)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """exp(H(p)), p_i = |mu_i| / sum_j |mu_j|, H the entropy; 0 for A = 0. Shape: (B, N) -> (B,).

    From 1 (a single eigenvalue other than zero) to N (all of one size). For a symmetric A, whose
    singular values are the |mu_i|, it is the effective rank of Roy and Vetterli (EUSIPCO 2007).
    """
    sizes = eigenvalues.abs()
    total = sizes.sum(-1, keepdim=True)
    share = sizes / total.where(total > 0, 1)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return entropy.exp().where(total[..., 0] > 0, 0)


def solved_size(affinity: Affinity, positions: int) -> int:
    """Rows of the matrix that :func:`eigenvalues` solves, for an A of so many positions."""
    if isinstance(affinity, LowRank | SymmetricLowRank):
        rank = 2 * affinity.left.shape[-1]
        return min(rank, affinity.left.shape[1])
    return positions


class Compressed(NamedTuple):
    """A = basis matrix basis^T with orthonormal columns; no basis stands for the identity."""

    matrix: Tensor  # (B, n, n)
    basis: Tensor | None  # (B, N, n)
    positions: int
    eps: float  # of the dtype A is given in

    def symmetry_error(self) -> Tensor:
        """||A - A^T||_F / ||A||_F. Shape: (B,)."""
        norm = torch.linalg.matrix_norm(self.matrix)
        return torch.linalg.matrix_norm(self.matrix - self.matrix.mT) / norm.where(norm > 0, 1)

    def eigenvalues(self) -> Tensor:
        """All of A's, as the function of this name returns them. Shape: (B, N)."""
        if self.is_symmetric():
            values = torch.linalg.eigvalsh(self.matrix)
        else:
            values = torch.linalg.eigvals(self.matrix)
        return self.with_zeros(values)

    def eigenspaces(self) -> Eigenspaces:
        """Of an A that is symmetric."""
        return Eigenspaces(self, *torch.linalg.eigh(self.matrix))

    def with_zeros(self, values: Tensor) -> Tensor:
        """All of A's eigenvalues, from those of ``matrix``, by descending real part. (B, N)."""
        values = F.pad(values, (0, self.positions - values.shape[-1]))
        # Stable, so that conjugate pairs stay side by side.
        return values.gather(-1, values.real.argsort(dim=-1, descending=True, stable=True))

    def is_symmetric(self) -> bool:
        """Whether A^T is A but for the rounding of scaling the rows and columns of an entry."""
        return bool((self.symmetry_error() <= 4 * self.eps).all())


class Eigenspaces(NamedTuple):
    """The eigenvalues (B, n) and eigenvectors (B, n, n), as columns, of a compressed matrix."""

    core: Compressed
    values: Tensor
    vectors: Tensor

    def eigenvalues(self) -> Tensor:
        """All of A's, by descending real part. Shape: (B, N)."""
        return self.core.with_zeros(self.values)


def compressed(affinity: Affinity) -> Compressed:
    """A in an orthonormal basis of its factors where they are thin, as it is otherwise.

    Raises:
        ValueError: for an affinity that is not square.
    """
    # The R x R matrix right^T left has the same eigenvalues other than zero, but is not symmetric
    # where A is, and has neither its norm nor its eigenvectors.
    if not isinstance(affinity, LowRank | SymmetricLowRank):
        matrix = affinity.to_dense()
        _check_square(*matrix.shape[1:])
        return Compressed(matrix.double(), None, matrix.shape[1], torch.finfo(matrix.dtype).eps)
    _check_square(affinity.left.shape[1], affinity.right.shape[1])
    basis, eps = None, torch.finfo(affinity.left.dtype).eps
    factors = torch.cat([affinity.left, affinity.right], -1).double()
    positions, both = factors.shape[1:]
    if positions > both:
        basis, factors = torch.linalg.qr(factors)
    left, right = factors.chunk(2, -1)
    matrix = left @ right.mT
    if isinstance(affinity, SymmetricLowRank):
        matrix = (matrix + matrix.mT) / 2
    return Compressed(matrix, basis, positions, eps)


def _check_square(positions: int, keys: int) -> None:
    if positions != keys:
        raise ValueError(
            f"an affinity of {positions} positions and {keys} keys is not square and has no "
            "eigenvalues; build the block with pool=1."
        )
