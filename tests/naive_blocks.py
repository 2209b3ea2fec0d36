"""Terms that every block adds to X before its norm, as loops written from the papers.

``EQUATIONS[name](w, x, grid, **options)`` with x (B, N, C) gives (B, N, C). ``w`` holds the
weights: theta, phi, z (rows are output channels), w (a list, one (C, Cs) matrix a term), and what
a block has besides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.naive import linear, normalized, pairwise, product, rows, symmetrized

Weights = dict[str, Any]
Grid = Sequence[int]


def exponentials(theta: Tensor, phi: Tensor, scale: float = 1.0) -> Tensor:
    """M_ij = exp(scale <theta_i, phi_j>), relative to the largest of all."""
    scores = scale * pairwise(theta, phi)
    if scores.numel() == 0:
        return scores
    return (scores - scores.detach().amax((1, 2), keepdim=True)).exp()


def kernel_matrix(name: str, w: Weights, x: Tensor, scaled: bool) -> Tensor:
    """M of a pair kernel (arXiv:1711.07971, section 3.2; arXiv:2108.02451, section 3.3)."""
    if name == "gaussian":
        return exponentials(x, x, x.shape[-1] ** -0.5 if scaled else 1.0)
    theta, phi = linear(w["theta"], x), linear(w["phi"], x)
    if name == "relu_dot":
        return pairwise(theta.clamp(min=0), phi.clamp(min=0))
    if name == "dot":
        return pairwise(theta, phi) / x.shape[1]
    if name == "concatenation":
        joined = theta[:, :, None, 0] + phi[:, None, :, 0]
        return joined.clamp(min=0) / x.shape[1]
    return exponentials(theta, phi, theta.shape[-1] ** -0.5 if scaled else 1.0)


def _normalized(matrix: Tensor, how: str | None) -> Tensor:
    return matrix if how is None else normalized(matrix, how)


def _sum(w: Weights, terms: list[Tensor]) -> Tensor:
    values = [linear(weight, term) for weight, term in zip(w["w"], terms, strict=True)]
    return sum(values[1:], values[0])


def _pair_affinity(w: Weights, x: Tensor, kernel: str, how: str | None, scaled: bool) -> Tensor:
    usual = "rw" if kernel not in ("dot", "concatenation") else None
    return _normalized(kernel_matrix(kernel, w, x, scaled), usual if how == "default" else how)


def nl(
    w: Weights,
    x: Tensor,
    grid: Grid,
    kernel: str = "embedded_gaussian",
    normalization: str | None = "default",
    scaled: bool = False,
) -> Tensor:
    a = _pair_affinity(w, x, kernel, normalization, scaled)
    return _sum(w, [product(a, linear(w["z"], x))])


def ns(
    w: Weights,
    x: Tensor,
    grid: Grid,
    kernel: str = "embedded_gaussian",
    normalization: str | None = "default",
    scaled: bool = False,
) -> Tensor:
    a = _pair_affinity(w, x, kernel, normalization, scaled)
    z = linear(w["z"], x)
    return linear(w["w"][0], z) - linear(w["w"][0], product(a, z))


def a2(w: Weights, x: Tensor, grid: Grid, descriptors: int | None = None) -> Tensor:
    """Gathering: one descriptor for each map r; distribution: a mixture of them (1810.11579)."""
    distribute, gather, z = (linear(w[key], x) for key in ("theta", "phi", "z"))
    descriptors = []
    for b in range(x.shape[0]):
        shares = [gather[b, :, r].exp() for r in range(gather.shape[-1])]
        descriptors.append([((e / e.sum())[:, None] * z[b]).sum(0) for e in shares])

    def mixture(b: int, i: int) -> Tensor:
        shares = distribute[b, i].exp() / distribute[b, i].exp().sum()
        return sum(share * d for share, d in zip(shares, descriptors[b], strict=True))

    return linear(w["w"][0], rows(*x.shape[:2], mixture, z.shape[-1]))


def cgnl(
    w: Weights,
    x: Tensor,
    grid: Grid,
    groups: int = 1,
    order: int = 2,
    gamma: float = 1e-4,
    normalization: str | None = None,
    series: bool = True,
    scaled: bool = False,
) -> Tensor:
    """sum over j, d of k(t_ic, p_jd) z_jd, within a group of channels (1810.13125, eq. 8 on)."""
    t, p, z = (linear(w[key], x) for key in ("theta", "phi", "z"))
    width = z.shape[-1] // groups

    def kernel(s: Tensor) -> Tensor:
        if not series:
            return s / (math.sqrt(x.shape[1] * width) if scaled else 1)
        powers = sum((2 * gamma * s) ** k / math.factorial(k) for k in range(order + 1))
        return math.exp(-2 * gamma) * powers

    def response(b: int, i: int, c: int) -> Tensor:
        group = slice(c // width * width, (c // width + 1) * width)
        weights = kernel(t[b, i, c] * p[b, :, group])
        return (weights * z[b, :, group]).sum() / (weights.sum() if normalization == "rw" else 1)

    def row(b: int, i: int) -> Tensor:
        return torch.stack([response(b, i, c) for c in range(z.shape[-1])])

    return linear(w["w"][0], rows(*x.shape[:2], row, z.shape[-1]))


def cc(w: Weights, x: Tensor, grid: Grid) -> Tensor:
    """Softmax over the positions that differ in one coordinate at most (1811.11721)."""
    theta, phi = linear(w["theta"], x), linear(w["phi"], x)
    places = list(itertools.product(*map(range, grid)))

    def row(b: int, i: int) -> Tensor:
        differing = [sum(p != q for p, q in zip(places[i], place, strict=True)) for place in places]
        on_a_line = torch.tensor([count <= 1 for count in differing])
        return (theta[b, i] * phi[b]).sum(-1).exp() * on_a_line

    a = normalized(rows(*x.shape[:2], row, x.shape[1]), "rw")
    return linear(w["w"][0], product(a, x))


def dnl(
    w: Weights,
    x: Tensor,
    grid: Grid,
    scaled: bool = False,
    temperature: float = 1.0,
    gamma: float | None = None,
) -> Tensor:
    """Whitened pairwise softmax plus unary softmax (2006.06668, eq. 9)."""
    theta, phi, unary = (linear(w[key], x) for key in ("theta", "phi", "unary"))
    theta, phi = theta - theta.mean(1, keepdim=True), phi - phi.mean(1, keepdim=True)
    scale = (theta.shape[-1] ** -0.5 if scaled else 1.0) / temperature
    whitened = normalized(exponentials(theta, phi, scale), "rw")
    whitened = whitened if gamma is None else w["gamma"] * whitened
    salience = unary[..., 0].exp() / unary[..., 0].exp().sum(1, keepdim=True)
    a = rows(*x.shape[:2], lambda b, i: whitened[b, i] + salience[b], x.shape[1])
    return linear(w["w"][0], product(a, linear(w["z"], x)))


def spectral_affinity(
    w: Weights, x: Tensor, kernel: str = "relu_dot", scaled: bool = False
) -> Tensor:
    """D^-1/2 (M + M^T)/2 D^-1/2 of 2108.02451."""
    return normalized(symmetrized(kernel_matrix(kernel, w, x, scaled)), "sym")


def snl(
    w: Weights, x: Tensor, grid: Grid, kernel: str = "relu_dot", scaled: bool = False
) -> Tensor:
    z = linear(w["z"], x)
    return _sum(w, [z, product(spectral_affinity(w, x, kernel, scaled), z)])


def snl_a1(w: Weights, x: Tensor, grid: Grid) -> Tensor:
    return _sum(w, [product(spectral_affinity(w, x), linear(w["z"], x))])


def snl_a2(w: Weights, x: Tensor, grid: Grid) -> Tensor:
    z = linear(w["z"], x)
    a = normalized(kernel_matrix("relu_dot", w, x, False), "rw")
    return _sum(w, [z, product(a, z)])


def gsnl(
    w: Weights,
    x: Tensor,
    grid: Grid,
    order: int = 2,
    kernel: str = "relu_dot",
    normalization: str | None = "sym",
    scaled: bool = False,
) -> Tensor:
    powers = [linear(w["z"], x)]
    if order > 0:
        a = _normalized(symmetrized(kernel_matrix(kernel, w, x, scaled)), normalization)
    for _ in range(order):
        powers.append(product(a, powers[-1]))
    return _sum(w, powers)


def cayley(w: Weights, x: Tensor, grid: Grid, order: int = 1) -> Tensor:
    """Z W_0 + 2 Re sum_j [(hL - i)(hL + i)^-1]^j Z W_j (1705.07664, eq. 3), by dense inverses.

    The real weights of the terms [Z, Re, Im, Re, Im, ...] hold W_0, 2 Re W_j, -2 Im W_j.
    """
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    laplacian = w["h"] * (eye - spectral_affinity(w, x))
    transform = (laplacian - 1j * eye) @ torch.linalg.inv(laplacian + 1j * eye)
    z = linear(w["z"], x)
    result, y = linear(w["w"][0], z), z.to(torch.complex128)
    for j in range(1, order + 1):
        y = transform @ y
        weight = torch.complex(w["w"][2 * j - 1], -w["w"][2 * j]) / 2
        result = result + 2 * torch.einsum("oc,bic->bio", weight, y).real
    return result


EQUATIONS: dict[str, Callable[..., Tensor]] = {
    "nl": nl,
    "ns": ns,
    "a2": a2,
    "cgnl": cgnl,
    "cc": cc,
    "dnl": dnl,
    "snl": snl,
    "snl_a1": snl_a1,
    "snl_a2": snl_a2,
    "gsnl": gsnl,
    "cayley": cayley,
}
