"""Input statistics: what a network's input is normalised with. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

__all__ = ["STATISTICS", "Statistics", "VideoStatistics"]

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of red, green and blue, for values in [0, 1]."""

STATISTICS: dict[str, Statistics] = {
    # What pytorchvideo's model zoo trained its Kinetics networks with.
    "kinetics": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    # torchvision's ImageNet weights.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # torchvision's video ResNets and S3D (transforms of its weights).
    "torchvision": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    # get_mean_std(value_scale=1, dataset="kinetics") of github.com/kenshohara/3D-ResNets-PyTorch
    # (mean.py; its defaults, with which r3d50_K_200ep and its relatives were trained).
    "hara": ((0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)),
}
"""Statistics that published weights were trained with, by name.

``data.statistics`` of videos names one of them, or ``auto``.
"""

# Type checkers know no types that are computed.
if TYPE_CHECKING:
    VideoStatistics = str
else:
    VideoStatistics = Literal["auto", *STATISTICS]
