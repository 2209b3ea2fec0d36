"""The pre-activation network for CIFAR of the code that the paper's authors released."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PreActBasic", "PreActBottleneck", "PreResNet", "PreActUnit"]


class PreActBasic(nn.Module):
    """X + conv2(relu(bn2(conv1(relu(bn1(X)))))), both 3x3 (arXiv:1603.05027).

    Where the shape changes X goes through a 1x1 convolution and a BatchNorm.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return out + (x if self.downsample is None else self.downsample(x))


class PreActBottleneck(nn.Module):
    """As :class:`PreActBasic` with a 1x1, a 3x3 and a 1x1 convolution to 4 ``width`` channels."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        return out + (x if self.downsample is None else self.downsample(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


PreActUnit = type[PreActBasic] | type[PreActBottleneck]


class PreResNet(nn.Module):
    """The released pre-activation network for CIFAR: three layers of ``depth`` residual units.

    Unlike that of arXiv:1603.05027 it has a 1x1 convolution ``fc1`` and a dropout behind the last
    unit, and a BatchNorm on the shortcuts.

    Shapes:
        (B, 3, H, W) -> (B, num_classes), where H and W are 4 ``pool_size``.
    """

    def __init__(
        self,
        unit: PreActUnit,
        depth: int,
        num_classes: int = 1000,
        *,
        pool_size: int = 8,
    ) -> None:
        super().__init__()
        wide = unit.expansion
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = _layer(unit, 16, 16, depth, stride=1)
        self.layer2 = _layer(unit, 16 * wide, 32, depth, stride=2)
        self.layer3 = _layer(unit, 32 * wide, 64, depth, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * wide)
        self.fc1 = nn.Conv2d(64 * wide, 64 * wide, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64 * wide)
        self.avgpool = nn.AvgPool2d(pool_size, stride=1)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(64 * wide, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv(x))))
        x = self.fc1(F.relu(self.bn1(x)))
        x = self.avgpool(F.relu(self.bn2(x)))
        return self.fc2(self.dropout(x.flatten(1)))


def _layer(
    unit: PreActUnit,
    in_channels: int,
    width: int,
    depth: int,
    stride: int,
) -> nn.Sequential:
    out_channels = unit.expansion * width
    others = [unit(out_channels, width) for _ in range(depth - 1)]
    return nn.Sequential(unit(in_channels, width, stride), *others)
