"""Plain 3D ResNets, from the description of Hara et al. (arXiv:1711.09577).

Only the names of its parameters are those of the released weights; it stands for them in tests.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    channels_in: int, channels_out: int, kernel: int, stride: int | tuple[int, int, int] = 1
) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)


class Unit(nn.Module):
    """y = relu(F(x) + S(x)): F is 1x1x1, 3x3x3 with the stride, 1x1x1; S a projection or x."""

    def __init__(self, channels_in: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels_in, width, 1), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm3d(4 * width)
        if project:
            self.downsample = nn.Sequential(
                conv(channels_in, 4 * width, 1, stride), nn.BatchNorm3d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class BasicUnit(nn.Module):
    """y = relu(F(x) + S(x)): F is 3x3x3 with the stride, 3x3x3; S a projection or x."""

    def __init__(self, channels_in: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels_in, width, 3, stride), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm3d(width)
        if project:
            self.downsample = nn.Sequential(
                conv(channels_in, width, 1, stride), nn.BatchNorm3d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


class HaraResNet3d(nn.Module):
    """7x7x7 stem of stride (1, 2, 2), 3x3x3 max-pool, four layers, mean, linear.

    Layers 2-4 halve T, H and W in their first unit. It projects its shortcut, as does that of layer
    1 of bottlenecks, which return four times the channels of the stem.
    """

    def __init__(
        self,
        num_classes: int,
        depths: tuple[int, ...] = UNITS[50],
        width: int = 64,
        basic: bool = False,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 7, (1, 2, 2)), nn.BatchNorm3d(width)
        self.depths = depths
        unit, expansion = (BasicUnit, 1) if basic else (Unit, 4)
        channels = width
        for layer, depth in enumerate(depths):
            inner, stride = width * 2**layer, 1 if layer == 0 else 2
            units = [unit(channels, inner, stride, project=layer > 0 or not basic)]
            units += [unit(expansion * inner, inner, 1, project=False) for _ in range(depth - 1)]
            setattr(self, f"layer{layer + 1}", nn.Sequential(*units))
            channels = expansion * inner
        self.fc = nn.Linear(channels, num_classes)

    @classmethod
    def of_depth(cls, depth: int, num_classes: int, width: int = 64) -> HaraResNet3d:
        """The network of so many layers."""
        return cls(num_classes, UNITS[depth], width, basic=depth < 50)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for layer in range(len(self.depths)):
            y = getattr(self, f"layer{layer + 1}")(y)
        return self.fc(y.mean(dim=(2, 3, 4)))


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and BatchNorm statistics away from their initial values, scaled to keep signals."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, nn.Linear):
            module.bias.data.normal_(generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.weight.data.uniform_(0.5, 1, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()
