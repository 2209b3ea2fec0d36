"""ResNet-50 of images: torchvision's, the one for CIFAR, and the backbone of segmentation."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["DilatedResNet", "Stages", "resnet50", "resnet50_cifar"]


def resnet50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build torchvision's ResNet-50 (arXiv:1512.03385; stride on the 3x3) with a dropout.

    Shapes: (B, 3, H, W) -> (B, num_classes); H, W >= 32 to be of use.
    """
    import torchvision  # takes a second

    network = torchvision.models.resnet50(num_classes=num_classes)
    network.avgpool = nn.Sequential(network.avgpool, nn.Dropout(dropout))
    return network


def resnet50_cifar(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build :func:`resnet50` with a 3x3 stem of stride 1 and no max-pool, for 32 x 32 images.

    23,520,842 parameters with 10 classes, 23,705,252 with 100.
    """
    network = resnet50(num_classes, dropout)
    stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if not stem.weight.is_meta:
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = stem
    network.maxpool = nn.Identity()
    return network


class Stages(NamedTuple):
    """Outputs of the last two stages: (B, 1024, H / 8, W / 8) and (B, 2048, H / 8, W / 8)."""

    third: Tensor
    fourth: Tensor


class DilatedResNet(nn.Module):
    """ResNet50-V1c of output stride 8: three 3x3 convolutions as stem, dilated last two stages.

    Stages 3 and 4 have stride 1 and dilations 2 and 4; the first block of each keeps the dilation
    of the stage before. Names are mmsegmentation's (``stem``, ``layer1`` ... ``layer4``); those of
    torchvision's ResNet-50 fit all but the stem.

    Shapes: (B, 3, H, W) -> :class:`Stages`.
    """

    def __init__(self) -> None:
        super().__init__()
        import torchvision  # takes a second

        plain = torchvision.models.resnet50(
            num_classes=1, replace_stride_with_dilation=[False, True, True]
        )
        self.stem = nn.Sequential(*_convolved(3, 32, 2), *_convolved(32, 32), *_convolved(32, 64))
        self.maxpool = plain.maxpool
        self.layer1, self.layer2 = plain.layer1, plain.layer2
        self.layer3, self.layer4 = plain.layer3, plain.layer4

    def forward(self, x: Tensor) -> Stages:
        x = self.layer2(self.layer1(self.maxpool(self.stem(x))))
        third = self.layer3(x)
        return Stages(third, self.layer4(third))


def _convolved(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    if not convolution.weight.is_meta:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
