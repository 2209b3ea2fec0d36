"""The eigenvalues of an affinity, in float64 and from its thin factors where it has any.

An eigenvalue mu of A is the graph frequency lambda = 1 - mu of the Laplacian L = I - A.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.operators import Affinity, LowRank, SymmetricLowRank

__all__ = [
    "CompressedAffinity",
    "Eigendecomposition",
    "complex_share",
    "compress",
    "effective_rank",
    "eigenvalues",
    "solved_size",
    "symmetry_error",
]


@torch.no_grad()
def eigenvalues(affinity: Affinity) -> Tensor:
    """Return all N eigenvalues of A, by descending real part, zeros included. Shape: (B, N).

    They are real where A is symmetric up to the rounding of its dtype, complex otherwise. For
    factors of rank R < N / 2 the matrix solved is 2 R x 2 R, and no N x N one is formed.

    Raises:
        ValueError: for an affinity that is not square.
    """
    return compress(affinity).eigenvalues()


@torch.no_grad()
def symmetry_error(affinity: Affinity) -> Tensor:
    """Return ||A - A^T||_F / ||A||_F, from 0 to 2, and 0 for A = 0. Shape: (B,).

    Raises:
        ValueError: for an affinity that is not square.
    """
    return compress(affinity).symmetry_error()


def complex_share(eigenvalues: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Return the share with |imaginary part| > tolerance * largest size. Shape: (B, N) -> (B,).

    An eigenvalue that is real but defective is computed as a pair some sqrt(eps) = 1.5e-8 apart,
    hence the tolerance.
    """
    if not eigenvalues.is_complex():
        return torch.zeros_like(eigenvalues[..., 0])
    largest = eigenvalues.abs().amax(-1, keepdim=True)
    return (eigenvalues.imag.abs() > tolerance * largest).double().mean(-1)


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """Return exp(H(p)), p_i = |mu_i| / sum_j |mu_j|, H the entropy. Shape: (B, N) -> (B,).

    It is from 1 (a single eigenvalue other than zero) to N (all of one size), and 0 for A = 0. Of a
    symmetric A, whose singular values are the |mu_i|, it is the effective rank of Roy and Vetterli
    (EUSIPCO 2007).
    """
    sizes = eigenvalues.abs()
    total = sizes.sum(-1, keepdim=True)
    share = sizes / total.where(total > 0, 1)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return entropy.exp().where(total[..., 0] > 0, 0)


def solved_size(affinity: Affinity, positions: int) -> int:
    """Return the number of rows of the matrix whose eigenvalues :func:`eigenvalues` computes."""
    if isinstance(affinity, LowRank | SymmetricLowRank):
        rank = 2 * affinity.left.shape[-1]
        return min(rank, affinity.left.shape[1])
    return positions


class CompressedAffinity(NamedTuple):
    """A = basis matrix basis^T with orthonormal columns of the basis.

    Shapes: matrix (B, n, n); basis (B, N, n), or None for the identity.

    Attributes:
        positions: N.
        eps: machine epsilon of the dtype that A was given in.
    """

    matrix: Tensor
    basis: Tensor | None
    positions: int
    eps: float

    def symmetry_error(self) -> Tensor:
        """Return ||A - A^T||_F / ||A||_F. Shape: (B,)."""
        norm = torch.linalg.matrix_norm(self.matrix)
        return torch.linalg.matrix_norm(self.matrix - self.matrix.mT) / norm.where(norm > 0, 1)

    def is_symmetric(self) -> bool:
        """Compare A^T with A, up to the rounding of scaling rows and columns."""
        return bool((self.symmetry_error() <= 4 * self.eps).all())

    def eigenvalues(self) -> Tensor:
        """Return all eigenvalues of A as the function :func:`eigenvalues` does. Shape: (B, N)."""
        if self.is_symmetric():
            return self.all_eigenvalues(torch.linalg.eigvalsh(self.matrix))
        return self.all_eigenvalues(torch.linalg.eigvals(self.matrix))

    def decompose(self) -> Eigendecomposition:
        """Return the eigenvalues and eigenvectors of a symmetric A."""
        return Eigendecomposition(self, *torch.linalg.eigh(self.matrix))

    def all_eigenvalues(self, values: Tensor) -> Tensor:
        """Add A's zeros to the eigenvalues (B, n) of ``matrix`` and sort them. Shape: (B, N)."""
        values = F.pad(values, (0, self.positions - values.shape[-1]))
        # Stable, so that conjugate pairs stay side by side.
        return values.gather(-1, values.real.argsort(dim=-1, descending=True, stable=True))

    def null_bound(self, values: Tensor) -> Tensor:
        """Return the size up to which eigenvalues count as zero. Shape: (..., n) -> (..., 1).

        It is N eps times the largest, below which there is only the rounding of A's own dtype.
        """
        largest = F.pad(values.abs(), (0, 1)).amax(-1, keepdim=True)
        return self.positions * self.eps * largest


class Eigendecomposition(NamedTuple):
    """The eigenvalues and eigenvectors of a compressed symmetric affinity.

    Shapes: values (B, n), vectors (B, n, n) as columns.
    """

    affinity: CompressedAffinity
    values: Tensor
    vectors: Tensor

    def eigenvalues(self) -> Tensor:
        """Return all eigenvalues of A, by descending real part. Shape: (B, N)."""
        return self.affinity.all_eigenvalues(self.values)


def compress(affinity: Affinity) -> CompressedAffinity:
    """Express A in an orthonormal basis of its factors if they are thin, else in the identity.

    Raises:
        ValueError: for an affinity that is not square.
    """
    # The R x R matrix right^T left has the same eigenvalues other than zero, but is not symmetric
    # where A is, and has neither its norm nor its eigenvectors.
    if not isinstance(affinity, LowRank | SymmetricLowRank):
        matrix = affinity.to_dense()
        _check_square(*matrix.shape[1:])
        eps = torch.finfo(matrix.dtype).eps
        return CompressedAffinity(matrix.double(), None, matrix.shape[1], eps)
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
    return CompressedAffinity(matrix, basis, positions, eps)


def _check_square(positions: int, keys: int) -> None:
    if positions != keys:
        raise ValueError(
            f"an affinity of {positions} positions and {keys} keys is not square and has no "
            "eigenvalues; build the block with pool=1."
        )
