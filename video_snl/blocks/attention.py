"""The filter of SNL as the attention of a transformer, exact and linear in the number of tokens.

The names of attributes and arguments are those of :class:`torch.nn.MultiheadAttention`, whose place
the module takes in networks that are there already.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from video_snl.blocks.block import in_full_range
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.kernels import AffinitySpec, ReluDot
from video_snl.blocks.layers import ZeroBiasLinear, check_counts, check_dense, check_dtype
from video_snl.blocks.operators import Affinity, can_be_read

__all__ = ["SpectralAttention"]


class _NoFastPath:
    """Stands where torch looks for the weights of softmax attention.

    In evaluation mode ``nn.TransformerEncoderLayer`` hands the weights of its ``self_attn`` to a
    fused kernel of softmax attention, and ``nn.TransformerEncoder`` makes its input nested for it.
    Both leave that to the module where one of the weights overrides torch's functions.
    """

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        raise TypeError(
            "SpectralAttention has no in_proj_weight for softmax attention; call the module, whose "
            "projections are in_proj and out_proj."
        )


class SpectralAttention(nn.Module):
    """F = sum_k concat_h(A_h^k Z_h) W_k + b, k = 0 ... order (eq. 12 of arXiv:2108.02451).

    For each head h, A_h = D^-1/2 (M + M^T)/2 D^-1/2 with M_ij = <relu(theta_i), relu(phi_j)>, as in
    SNL. theta, phi and Z are linear in the tokens. A is applied through its factors: 4 order N
    dim^2 / heads multiply-adds, where softmax attention needs 2 N^2 dim, and no N x N tensor. There
    is no residual, no norm and no zero start, since a transformer's layer has its own.

    It is self-attention: query, key and value are one tensor. A is symmetric and never formed, so
    that masks of pairs, causal masks and returned weights are refused; ``affinity(x).rows(index)``
    returns the weights of some tokens.

    Args:
        dim: channels of the tokens; torch's ``embed_dim``.
        heads: number of heads, which divides ``dim``; torch's ``num_heads``.
        order: highest power of A, at least 1. 1 is SNL, more is gSNL.
        batch_first: (B, N, dim) rather than (N, B, dim) for inputs and outputs. Unlike torch's, it
            is true by default.
        bias: biases of the projections, zero at the start.
        device, dtype: those of the parameters.

    Attributes:
        in_proj: linear layer from the tokens to [theta, phi, Z], heads side by side in each.
        out_proj: linear layer with the weights [W_0, W_1, ...] side by side.

    Raises:
        ValueError: for sizes that are not whole numbers of at least 1, heads that do not divide
            ``dim``, or ``batch_first`` or ``bias`` that is not a truth value.
    """

    # Read by torch's transformer layers. Each of these three keeps them off their fast path.
    in_proj_weight: ClassVar[_NoFastPath] = _NoFastPath()
    in_proj_bias: ClassVar[None] = None
    _qkv_same_embed_dim: ClassVar[bool] = False

    def __init__(
        self,
        dim: int,
        heads: int,
        order: int = 1,
        batch_first: bool = True,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_counts(dim=dim, heads=heads, order=order)
        for name, value in (("batch_first", batch_first), ("bias", bias)):
            if not isinstance(value, bool):
                raise ValueError(f"{name}={value!r} must be True or False.")
        if dim % heads:
            raise ValueError(f"heads={heads} must divide dim={dim}.")
        self.embed_dim, self.num_heads, self.batch_first = dim, heads, batch_first
        self.filter = Polynomial.powers(*range(order + 1))
        self.in_proj = ZeroBiasLinear(dim, 3 * dim, bias, device, dtype)
        self.out_proj = ZeroBiasLinear((order + 1) * dim, dim, bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw the weights as ``nn.Linear`` does, and set the biases to zero."""
        self.in_proj.reset_parameters()
        self.out_proj.reset_parameters()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Return F and None in place of the weights.

        Positions that the mask ignores get the output zero. Their content, NaN included, changes no
        other output and no gradient.

        Args:
            query, key, value: one and the same tensor, (B, N, dim), (N, B, dim) without
                ``batch_first``, or (N, dim) for a single sample. A nested tensor of samples
                (N_i, dim) gives a nested tensor.
            key_padding_mask: True = ignore this position, as in torch; or floating point with -inf
                for ignore and 0 for keep. Shape: (B, N), or (N,) for a single sample.
            need_weights, attn_mask, is_causal: refused where they are set.
            average_attn_weights: without effect, as in torch where no weights are asked for.

        Raises:
            ValueError: for what is refused, other shapes, no position at all, another type than
                that of the weights, which autocast does not convert, or, where values can
                be read (not in compiled or exported graphs, nor within torch.func), a mask with
                other values or one that ignores all positions of a sample.
        """
        self._check_refused(query, key, value, need_weights, attn_mask, is_causal)
        if isinstance(query, Tensor) and query.is_nested:
            return self._of_nested(query, key_padding_mask), None
        self._check_tokens(query, self._axes(), 1 if self.batch_first else 0)
        single, swapped = query.ndim == 2, query.ndim == 3 and not self.batch_first
        x = query[None] if single else query.transpose(0, 1) if swapped else query
        out = self._attended(x, _ignored(key_padding_mask, tuple(x.shape[:2]), single))
        return out[0] if single else out.transpose(0, 1) if swapped else out, None

    def affinity(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Affinity:
        """Return A for the tokens x (B, N, dim), an operator with the batch (B heads).

        The operator of head h of sample b is at b heads + h. The mask is that of :meth:`forward`,
        and so are the errors; the batch comes first here, whatever ``batch_first`` is.
        """
        self._check_tokens(x, {3: f"(B, N, {self.embed_dim})"}, 1)
        embedded, _ = self._projected(x, _ignored(key_padding_mask, tuple(x.shape[:2])))
        return self._graph(embedded)

    def extra_repr(self) -> str:
        return (
            f"dim={self.embed_dim}, heads={self.num_heads}, order={self.filter.products}, "
            f"batch_first={self.batch_first}"
        )

    def _attended(self, x: Tensor, ignored: Tensor | None) -> Tensor:
        """Return F. Shapes: x (B, N, dim), ignored (B, N, 1) -> (B, N, dim)."""
        embedded, z = self._projected(x, ignored)
        terms = self._terms(z, self._graph(embedded)).to(z.dtype)
        # (B heads, N, terms * width) -> (B, N, terms, heads, width): the W_k are side by side.
        apart = terms.unflatten(-1, (self.filter.count, -1)).unflatten(0, (-1, self.num_heads))
        out = self.out_proj(apart.permute(0, 2, 3, 1, 4).flatten(2))
        return out if ignored is None else out.masked_fill(ignored, 0)

    def _projected(self, x: Tensor, ignored: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return [theta, phi] and Z for each head. Shapes: (B heads, N, 2 width), (..., width)."""
        # What is ignored is zeroed before the projection, since 0 times NaN in the gradient of its
        # weight would be NaN, and after it, where the bias would give it embeddings.
        x = x if ignored is None else x.masked_fill(ignored, 0)
        projected = self.in_proj(x)
        if ignored is not None:
            projected = projected.masked_fill(ignored, 0)
        apart = projected.unflatten(-1, (3, self.num_heads, -1))
        heads = apart.permute(0, 3, 1, 2, 4).flatten(0, 1)
        return heads[..., :2, :].flatten(2), heads[..., 2, :]

    @in_full_range
    def _graph(self, embedded: Tensor) -> Affinity:
        positions, width = embedded.shape[1], embedded.shape[2] // 2
        spec = AffinitySpec(
            (positions,),
            symmetric=True,
            normalization="sym",
            channels=width,
            times=self.filter.products,
        )
        return ReluDot().affinity(embedded, spec)

    @in_full_range
    def _terms(self, z: Tensor, affinity: Affinity) -> Tensor:
        return self.filter.terms(affinity, z)

    def _of_nested(self, x: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """Return F for a nested tensor, as ``nn.TransformerEncoder`` makes them of padded ones.

        It does so for a first layer with softmax attention, which then hands them on.
        """
        if x.layout != torch.strided or x.dim() != 3 or not self.batch_first:
            raise ValueError(
                f"SpectralAttention takes nested tensors of samples (N, {self.embed_dim}) in the "
                "layout torch.strided and with batch_first; pad this one and give a "
                "key_padding_mask."
            )
        if key_padding_mask is not None:
            raise ValueError(
                "key_padding_mask with a nested tensor, which has no padding; leave one out."
            )
        samples = x.unbind()
        if not samples:
            raise ValueError("SpectralAttention expects at least one sample in a nested tensor.")
        for sample in samples:  # padding would fill up a narrow one with zeros
            self._check_tokens(sample, {2: f"(N, {self.embed_dim}) in a nested tensor"}, 0)
        lengths = [len(sample) for sample in samples]
        padded = x.to_padded_tensor(0.0)
        places = torch.arange(padded.shape[1], device=x.device)
        mask = places >= torch.tensor(lengths, device=x.device)[:, None]
        out = self._attended(padded, _ignored(mask, tuple(padded.shape[:2])))
        kept = [sample[:length] for sample, length in zip(out, lengths, strict=True)]
        return torch.nested.as_nested_tensor(kept)

    def _axes(self) -> dict[int, str]:
        """Return the axes of inputs by their number, for messages."""
        order = "B, N" if self.batch_first else "N, B"
        return {3: f"({order}, {self.embed_dim})", 2: f"(N, {self.embed_dim})"}

    def _check_tokens(self, x: Tensor, axes: dict[int, str], positions: int) -> None:
        """Check tokens whose axes are among ``axes``; ``positions`` is N's place among three."""
        expected = f"SpectralAttention expects tokens {' or '.join(axes.values())}"
        check_dense(x, expected)
        if x.ndim not in axes or x.shape[-1] != self.embed_dim:
            raise ValueError(f"{expected}, got {tuple(x.shape)}.")
        if x.shape[positions if x.ndim == 3 else 0] == 0:
            raise ValueError(
                f"SpectralAttention needs at least one token, got a tensor of shape "
                f"{tuple(x.shape)}."
            )
        check_dtype(x, self.in_proj, "SpectralAttention")

    @staticmethod
    def _check_refused(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> None:
        if not (_is_same(query, key) and _is_same(query, value)):
            raise ValueError(
                "SpectralAttention is self-attention, since its affinity is symmetric: query, key "
                "and value must be one tensor; use nn.MultiheadAttention for others."
            )
        if need_weights:
            raise ValueError(
                "need_weights=True: SpectralAttention never forms the N x N weights; call it with "
                "need_weights=False, and affinity(x).rows(index) for the weights of some tokens."
            )
        if attn_mask is not None or is_causal:
            given = "attn_mask" if attn_mask is not None else "is_causal=True"
            raise ValueError(
                f"{given}: the affinity of SpectralAttention is symmetric and never formed, so "
                "that no pair can be masked; use key_padding_mask for padding, or "
                "nn.MultiheadAttention for masks of pairs."
            )


def _is_same(x: Tensor, other: Tensor) -> bool:
    """Tell if two tensors are one, or views of the same memory that pass on the same gradient."""
    if x is other:
        return True
    if not isinstance(x, Tensor) or not isinstance(other, Tensor):
        return False
    if x.is_nested or other.is_nested or x.dtype != other.dtype:
        return False
    return x.requires_grad == other.requires_grad and x.is_set_to(other)


def _ignored(mask: Tensor | None, rows: tuple[int, ...], single: bool = False) -> Tensor | None:
    """Return which positions to ignore, from a mask in one of torch's forms. Shape: (B, N, 1).

    ``rows`` is (B, N), the shape of the mask; that of a single sample is (N,).
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise ValueError(
            f"key_padding_mask is a {type(mask).__module__}.{type(mask).__name__}; give a tensor, "
            "which torch.as_tensor makes of lists and arrays."
        )
    wanted = rows[1:] if single else rows
    if tuple(mask.shape) != wanted:
        raise ValueError(
            f"key_padding_mask has the shape {tuple(mask.shape)}, but these tokens need {wanted}."
        )
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(
            f"key_padding_mask has the type {mask.dtype}; give torch.bool (True = ignore), or "
            "floating point with -inf for ignore and 0 for keep."
        )
    ignored = mask if mask.dtype == torch.bool else mask == -torch.inf
    if can_be_read(mask):
        if mask.is_floating_point() and not (ignored | (mask == 0)).all():
            raise ValueError(
                "key_padding_mask has values other than -inf (ignore) and 0 (keep): weights of "
                "positions cannot be added to an affinity without a softmax; give a boolean mask."
            )
        empty = ignored.reshape(rows).all(1)
        if empty.any():
            raise ValueError(
                f"key_padding_mask ignores all positions of sample {empty.nonzero()[0].item()}; "
                "keep at least one, or leave the sample out."
            )
    return ignored.reshape(*rows, 1)
