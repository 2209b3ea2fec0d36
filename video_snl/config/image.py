"""An experiment on pictures as typed values, without torch.

The defaults are ``configs/digits/preresnet20_snl.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from video_snl.config.image_data import ImageDataConfig
from video_snl.config.images import ImageModelConfig
from video_snl.config.video import Sections, TrainerConfig

__all__ = ["ImageExperiment", "ImageOptimizerConfig"]


@dataclass
class ImageOptimizerConfig:
    """SGD and its schedule.

    Args:
        epochs: Passes over the training list (or of ``epoch_steps`` steps each). After each of
            them the test list is scored and a checkpoint kept.
        epoch_steps: Steps of an epoch; default as many as a pass takes. The order goes on from one
            epoch to the next, pass behind pass.
        batch_size: Pictures of one step, over all devices and accumulated parts together.
        test_batch_size: Pictures tested at once on a device; default as many as it takes at once
            in training, and 1 for scenes.
        accumulate: Parts a device's share of a batch is computed in, to save memory. The gradient
            is that of the mean over the step's samples, also in the last step of an epoch, which
            may have fewer parts. (BatchNorm sees a part at a time.)
        learning_rate: Initial learning rate.
        momentum: Momentum of SGD.
        nesterov: Use Nesterov's momentum.
        weight_decay: L2 penalty.
        schedule: ``milestones`` (times ``drop`` at each of them), ``cosine`` (to zero) or ``poly``
            (down to ``least_learning_rate`` along (1 - t)^``power``).
        milestones: Epochs after which the learning rate drops, such as ``[150, 250]``.
        drop: What it is multiplied by there.
        power: Of the ``poly`` schedule.
        least_learning_rate: Where the ``poly`` schedule ends.
        warmup_epochs: Epochs over which the learning rate rises linearly from a tenth.
        label_smoothing: Label smoothing of the cross-entropy of classification.
        gradient_clip: Largest norm of the gradient; default no clipping.
        ema_decay: Decay of an exponential moving average of the weights, which is then what is
            evaluated and kept; default none.
        backbone_lr_factor: Factor on the learning rate of the backbone.
        block_lr_factor: Factor on the learning rate of the inserted blocks.
        head_lr_factor: Factor on the learning rate of the classifier, or the heads.
        frozen_stages: Stages that do not train, such as ``[stem, layer1]``.
        frozen_batchnorm: The backbone's BatchNorm layers keep their statistics and weights.
    """

    epochs: int = 12
    epoch_steps: int | None = None
    batch_size: int = 64
    test_batch_size: int | None = None
    accumulate: int = 1
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: Literal["milestones", "cosine", "poly"] = "cosine"
    milestones: list[float] = field(default_factory=list)
    drop: float = 0.1
    power: float = 0.9
    least_learning_rate: float = 0.0
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    gradient_clip: float | None = None
    ema_decay: float | None = None
    backbone_lr_factor: float = 1.0
    block_lr_factor: float = 1.0
    head_lr_factor: float = 1.0
    frozen_stages: list[str] = field(default_factory=list)
    frozen_batchnorm: bool = False


@dataclass
class ImageExperiment(Sections):
    """One training run on pictures: data, model, optimizer and trainer."""

    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    model: ImageModelConfig = field(default_factory=ImageModelConfig)
    optimizer: ImageOptimizerConfig = field(default_factory=ImageOptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
