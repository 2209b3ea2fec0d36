"""State dicts with the names and shapes of the paper's released code, of random numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.released import State


class _Random:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def conv(self, outputs: int, inputs: int, size: int = 1) -> Tensor:
        weight = torch.randn(outputs, inputs, size, size, generator=self.generator)
        return weight / math.sqrt(inputs * size * size)

    def vector(self, size: int) -> Tensor:
        return torch.randn(size, generator=self.generator)

    def norm(self, prefix: str, channels: int, *, batch: bool = True) -> State:
        state = {
            f"{prefix}.weight": 0.5 + torch.rand(channels, generator=self.generator),
            f"{prefix}.bias": self.vector(channels),
        }
        if batch:
            state[f"{prefix}.running_mean"] = 0.3 * self.vector(channels)
            state[f"{prefix}.running_var"] = 0.5 + torch.rand(channels, generator=self.generator)
            state[f"{prefix}.num_batches_tracked"] = torch.tensor(7)
        return state


def block_state(
    kind: str, channels: int = 8, width: int = 4, units: int = 1, groups: int = 1, seed: int = 0
) -> State:
    """A block's state dict, in float32. Those of ``units`` CC blocks begin with ``0.``, ..."""
    r = _Random(seed)
    if kind == "cc":
        return {
            f"{i}.{name}": value
            for i in range(units)
            for name, value in _criss_cross_state(r, channels, width).items()
        }
    state = {f"{name}.weight": r.conv(width, channels) for name in "tp"}
    if kind == "cgnl":
        state["g.weight"] = r.conv(width, channels)
        state["z.weight"] = r.conv(channels, width // groups)
        return state | r.norm("gn", channels, batch=False)
    for i in range(units):
        unit = _unit_state(r, kind, channels, width // 2 if kind == "cayley" else width)
        state |= {f"stages.{i}.{name}": value for name, value in unit.items()}
    return state


def _unit_state(r: _Random, kind: str, channels: int, width: int) -> State:
    state = {"g.weight": r.conv(width, channels), **r.norm("bn", channels)}
    if kind == "dnl":
        state["w_m.weight"] = r.conv(1, channels)
    if kind in ("snl", "cayley"):
        state["w_1.weight"] = r.conv(channels, width)
    state["w_2.weight"] = r.conv(channels, width)
    if kind == "cayley":
        state["w_h.weight"] = r.conv(width, width)
    return state


def _criss_cross_state(r: _Random, channels: int, width: int) -> State:
    state = {}
    for name, outputs in {"query": width, "key": width, "value": channels}.items():
        state[f"{name}_conv.weight"] = r.conv(outputs, channels)
        state[f"{name}_conv.bias"] = r.vector(outputs)
    return state | {"gamma": r.vector(1)}


def preresnet_state(
    depth: int, bottleneck: bool, blocks: dict[str, State], classes: int = 10
) -> State:
    """A CIFAR checkpoint; ``blocks`` by layer. It has the script's unused ``conv1`` and ``fc``."""
    r, wide = _Random(1), 4 if bottleneck else 1
    state, inputs = {"conv.weight": r.conv(16, 3, 3)}, 16
    for layer, width in (("layer1", 16), ("layer2", 32), ("layer3", 64)):
        units = []
        for i in range(depth):
            units.append(_residual(r, inputs, width, wide, pre=True, project=i == 0))
            inputs = width * wide
        state |= _numbered(layer, units, blocks.get(layer), 2)
    state |= r.norm("bn1", inputs) | {"fc1.weight": r.conv(inputs, inputs)} | r.norm("bn2", inputs)
    state |= {"fc2.weight": r.vector(classes * inputs).view(classes, inputs) / inputs**0.5}
    state |= {"fc2.bias": r.vector(classes), "conv1.weight": r.conv(64, 3, 3)}
    return state | {"fc.weight": r.vector(20480).view(10, 2048), "fc.bias": r.vector(10)}


def resnet_state(
    depths: tuple[int, int, int, int], block: State | None, classes: int = 10, stem: int = 7
) -> State:
    """A ResNet of bottlenecks, with a block before the last unit of layer3."""
    r = _Random(2)
    state, inputs = {"conv1.weight": r.conv(64, 3, stem), **r.norm("bn1", 64)}, 64
    for number, depth in enumerate(depths):
        units = []
        for i in range(depth):
            units.append(_residual(r, inputs, 64 * 2**number, 4, pre=False, project=i == 0))
            inputs = 256 * 2**number
        inserted = block if number == 2 else None
        state |= _numbered(f"layer{number + 1}", units, inserted, depth - 1)
    weight = r.vector(classes * inputs).view(classes, inputs) / inputs**0.5
    return state | {"fc.weight": weight, "fc.bias": r.vector(classes)}


def _residual(r: _Random, inputs: int, width: int, wide: int, *, pre: bool, project: bool) -> State:
    outputs = width * wide
    convs = [(width, inputs, 3), (outputs, width, 3)]
    if wide > 1:
        convs = [(width, inputs, 1), (width, width, 3), (outputs, width, 1)]
    state: State = {}
    for i, (outs, ins, size) in enumerate(convs, 1):
        state[f"conv{i}.weight"] = r.conv(outs, ins, size)
        state |= r.norm(f"bn{i}", ins if pre else outs)
    if project and (inputs != outputs or width > 16):
        state |= {"downsample.0.weight": r.conv(outputs, inputs), **r.norm("downsample.1", outputs)}
    return state


def _numbered(layer: str, units: list[State], block: State | None, index: int) -> State:
    if block is not None:
        units.insert(index, block)
    return {f"{layer}.{i}.{n}": value for i, unit in enumerate(units) for n, value in unit.items()}


def features(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
