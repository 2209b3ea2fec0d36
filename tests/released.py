"""The equations of the paper's released code (SNL_ICCV2021), stated plainly, on its state dicts.

Everything is a function of tensors by their released names, so that no module is shared with the
package. 2d only, as released.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Block = Callable[[State, Tensor], Tensor]

STAGE_KINDS = ("snl", "nl", "ns", "dnl", "a2", "cayley")
KINDS = (*STAGE_KINDS, "cgnl", "cc")
AFFINITIES = ("softmax", "relu", "relu_sym")


# ---- Blocks --------------------------------------------------------------------------------------


def block(
    kind: str,
    state: State,
    x: Tensor,
    affinity: str | None = None,
    sign: int = 1,
    training: bool = False,
) -> Tensor:
    """Output of the released module."""
    if kind == "cgnl":
        return generalized(state, x)
    if kind == "cc":
        for i in range(_count(state, "")):
            x = criss_cross(below(state, f"{i}."), x)
        return x
    matrix = affinity_matrix(state, x, affinity or usual_affinity(kind))
    for i in range(_count(state, "stages.")):
        x = unit(kind, below(state, f"stages.{i}."), x, matrix, sign, training)
    return x


def usual_affinity(kind: str) -> str:
    return {"a2": "relu", "snl": "relu_sym", "cayley": "relu_sym"}.get(kind, "softmax")


def affinity_matrix(state: State, x: Tensor, how: str) -> Tensor:
    """(B, N, N), from the input of the stage."""
    theta, phi = nodes(conv(state, "t", x)), nodes(conv(state, "p", x))
    if how == "softmax":
        return torch.softmax(theta @ phi.mT, dim=2)
    m = theta.clamp(min=0) @ phi.clamp(min=0).mT
    if how == "relu":
        return m
    m = 0.5 * m + 0.5 * m.mT
    degree = m.sum(2)
    weight = torch.zeros_like(degree)
    weight[degree != 0] = degree[degree != 0] ** -0.5
    return torch.einsum("bi,bij,bj->bij", weight, m, weight)


def unit(
    kind: str, state: State, x: Tensor, a: Tensor, sign: int = 1, training: bool = False
) -> Tensor:
    """x + relu(bn(F)); a is the stage's matrix, the same for all of its units."""
    z = nodes(conv(state, "g", x))
    if kind == "snl":
        f = dense(state, "w_1", z) + sign * dense(state, "w_2", a @ z)
    elif kind == "ns":
        f = dense(state, "w_2", z) - dense(state, "w_2", a @ z)
    elif kind == "dnl":
        salience = nodes(conv(state, "w_m", x)).softmax(1)
        f = dense(state, "w_2", a @ z + (salience * z).sum(1, keepdim=True))
    elif kind == "cayley":
        laplacian = torch.eye(a.shape[1], dtype=a.dtype) - a
        inner = dense(state, "w_h", z) + laplacian @ (laplacian @ z)
        f = dense(state, "w_1", z) + dense(state, "w_2", inner)
    else:
        f = dense(state, "w_2", a @ z)
    return x + batch_norm(state, "bn", grid(f, x), training).relu()


def generalized(state: State, x: Tensor, order: int = 2, gamma: float = 1e-4) -> Tensor:
    """CGNL: in each group y = sum_k c_k <p^k, g> t^k over all channels and positions."""
    t, p, g = (conv(state, name, x) for name in "tpg")
    groups = t.shape[1] // state["z.weight"].shape[1]
    parts = []
    for t_, p_, g_ in zip(*(y.chunk(groups, 1) for y in (t, p, g)), strict=True):
        y = torch.zeros_like(t_)
        for k in range(order + 1):
            c = math.exp(-2 * gamma) * (2 * gamma) ** k / math.factorial(k)
            y = y + c * (p_**k * g_).sum((1, 2, 3), keepdim=True) * t_**k
        parts.append(y)
    z = F.conv2d(torch.cat(parts, 1), state["z.weight"], groups=groups)
    return x + F.group_norm(z, groups, state["gn.weight"], state["gn.bias"])


def criss_cross(state: State, x: Tensor) -> Tensor:
    """Every position asks those of its row and of its column, itself once."""
    q, k, v = (conv(state, f"{name}_conv", x) for name in ("query", "key", "value"))
    result = torch.zeros_like(v)
    height, width = x.shape[2:]
    for i in range(height):
        for j in range(width):
            cross = [(i, n) for n in range(width)] + [(n, j) for n in range(height) if n != i]
            rows, columns = (torch.tensor(c) for c in zip(*cross, strict=True))
            scores = torch.einsum("bc,bcn->bn", q[:, :, i, j], k[:, :, rows, columns])
            weights = scores.softmax(1)
            result[:, :, i, j] = torch.einsum("bn,bcn->bc", weights, v[:, :, rows, columns])
    return state["gamma"] * result + x


# ---- Networks ------------------------------------------------------------------------------------


def preresnet(state: State, x: Tensor, inserted: Block, pool_size: int = 8) -> Tensor:
    x = conv(state, "conv", x, padding=1)
    for layer in ("layer1", "layer2", "layer3"):
        stride = 1 if layer == "layer1" else 2
        x = _layer(below(state, f"{layer}."), x, stride, inserted, pre=True)
    x = conv(state, "fc1", batch_norm(state, "bn1", x).relu())
    x = F.avg_pool2d(batch_norm(state, "bn2", x).relu(), pool_size, 1).flatten(1)
    return x @ state["fc2.weight"].T + state["fc2.bias"]


def resnet(state: State, x: Tensor, inserted: Block, pool_size: int = 7) -> Tensor:
    small = state["conv1.weight"].shape[-1] == 3
    x = conv(state, "conv1", x, stride=1 if small else 2, padding=1 if small else 3)
    x = batch_norm(state, "bn1", x).relu()
    x = x if small else F.max_pool2d(x, 3, 2, 1)
    for number in (1, 2, 3, 4):
        stride = 1 if number == 1 else 2
        x = _layer(below(state, f"layer{number}."), x, stride, inserted, pre=False)
    x = F.avg_pool2d(x, pool_size, 1).flatten(1)
    return x @ state["fc.weight"].T + state["fc.bias"]


def _layer(state: State, x: Tensor, stride: int, inserted: Block, *, pre: bool) -> Tensor:
    residual = pre_activation if pre else bottleneck
    for i in range(_count(state, "")):
        part = below(state, f"{i}.")
        if "conv1.weight" in part:
            x = residual(part, x, stride if i == 0 else 1)
        else:
            x = inserted(part, x)
    return x


def pre_activation(state: State, x: Tensor, stride: int) -> Tensor:
    """bn-relu-conv twice or three times; the first 3x3 convolution has the stride."""
    out, shortcut, free = x, _shortcut(state, x, stride), stride
    for i in (1, 2, 3) if "conv3.weight" in state else (1, 2):
        size = state[f"conv{i}.weight"].shape[-1]
        step, free = (free, 1) if size == 3 else (1, free)
        out = batch_norm(state, f"bn{i}", out).relu()
        out = conv(state, f"conv{i}", out, stride=step, padding=size // 2)
    return out + shortcut


def bottleneck(state: State, x: Tensor, stride: int) -> Tensor:
    out = batch_norm(state, "bn1", conv(state, "conv1", x)).relu()
    out = batch_norm(state, "bn2", conv(state, "conv2", out, stride=stride, padding=1)).relu()
    out = batch_norm(state, "bn3", conv(state, "conv3", out))
    return (out + _shortcut(state, x, stride)).relu()


def _shortcut(state: State, x: Tensor, stride: int) -> Tensor:
    if "downsample.0.weight" not in state:
        return x
    return batch_norm(state, "downsample.1", conv(state, "downsample.0", x, stride=stride))


# ---- Parts ---------------------------------------------------------------------------------------


def below(state: State, prefix: str) -> State:
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


def _count(state: State, prefix: str) -> int:
    return 1 + max(int(n.split(".")[0]) for n in below(state, prefix))


def conv(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)


def batch_norm(state: State, name: str, x: Tensor, training: bool = False) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    shape = (-1, 1, 1)
    x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    return x * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def nodes(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, N, C)."""
    return x.flatten(2).mT


def grid(z: Tensor, like: Tensor) -> Tensor:
    """(B, N, C) -> (B, C, H, W)."""
    return z.mT.reshape(z.shape[0], -1, *like.shape[2:])


def double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


def dense(state: State, name: str, z: Tensor) -> Tensor:
    return z @ state[f"{name}.weight"].flatten(1).T


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value: unnormalised affinities make large ones."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual.double() / scale, expected / scale, rtol=1e-5, atol=1e-5)
