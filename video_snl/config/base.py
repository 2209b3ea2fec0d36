"""Base of the configurations of all kinds of task, as typed values without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_type_hints

from video_snl.config.validation import check_fields, with_readers_of_today

__all__ = [
    "BlockName",
    "ExperimentBase",
    "ModelBase",
    "OptimizerBase",
    "OptionValue",
    "TrainerConfig",
]

BlockName = Literal[
    "none",
    "nl",
    "ns",
    "a2",
    "cgnl",
    "cc",
    "dnl",
    "snl",
    "snl_a1",
    "snl_a2",
    "gsnl",
    "cayley",
    "se",
    "ge",
    "gc",
    "cgd",
]
OptionValue = bool | int | float | str | None


@dataclass
class ModelBase:
    """Options of the network and its blocks that all kinds of task have.

    Args:
        backbone: Name of the network.
        block: ``snl``, another block (docs/blocks.md), ``none``, or the dotted path of a block of
            your own (docs/extend.md), such as ``my_package.MyBlock``, which is imported.
        block_options: Options of the block itself, such as ``{order: 3}`` of ``gsnl``.
        positions: Where the blocks stand; default the places of the backbone.
        inter_channels: Transferred channels Cs of a block; default half of its channels.
        num_units: Sub-blocks of a block that share one affinity (as in ``ns``).
        zero_init: Blocks start as the identity (the weight of their last norm is zero).
        activation: ``relu`` puts a ReLU after a block's norm, as the paper's released code does;
            it needs ``zero_init: false``.
        dropout: Probability of dropout before the classifier.
        weights: Weights that the network starts from; default none.
        allow_partial_weights: Accept weights of which less than 95 % of the backbone's parameters
            match.
    """

    backbone: str
    block: str = "snl"
    block_options: dict[str, OptionValue] = field(default_factory=dict)
    positions: list[str] | None = None
    inter_channels: int | None = None
    num_units: int = 1
    zero_init: bool = True
    activation: Literal["relu"] | None = None
    dropout: float = 0.0
    weights: str | None = None
    allow_partial_weights: bool = False


@dataclass
class OptimizerBase:
    """Options that the optimizers of all kinds of task have.

    Args:
        accumulate: Micro-batches into which a device divides its share of a batch, to save memory
            (gradient accumulation). The gradient is that of the mean over the step's samples, also
            in the last step of an epoch, which may have fewer micro-batches. BatchNorm sees one
            micro-batch at a time.
        warmup_epochs: Epochs over which the learning rate rises linearly from a tenth.
        label_smoothing: Label smoothing of the cross-entropy of classification.
        gradient_clip: Largest norm of the gradient; default no clipping.
        ema_decay: Decay of an exponential moving average of the weights, which is then what is
            evaluated and kept; default none.
        backbone_lr_factor: Factor on the learning rate of the backbone.
        block_lr_factor: Factor on the learning rate of the inserted blocks.
        head_lr_factor: Factor on the learning rate of the classifier, or of the heads.
        frozen_stages: Stages that do not train, such as ``[stem, layer1]``.
        frozen_batchnorm: The backbone's BatchNorm layers keep their statistics and weights.
    """

    accumulate: int = 1
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
class TrainerConfig:
    """Devices, precision and folder of a run.

    Args:
        seed: All randomness is a function of this seed, the epoch and the sample.
        output: Folder in which every run gets a folder of its own.
        name: Start of the run folder's name; default the name of the configuration.
        accelerator: ``auto``, ``cpu``, ``gpu`` (or ``cuda``) or ``mps``.
        devices: Number of devices (processes on a CPU), or ``auto``.
        nodes: Number of machines; torchrun and SLURM are recognised.
        precision: ``auto`` (bfloat16 mixed precision on GPUs that have it, else float32),
            ``32-true``, ``bf16-mixed``, ``16-mixed`` or ``bf16-true`` (on a GPU only).
        channels_last: Keep feature maps with the channels last in memory (faster).
        activation_checkpointing: Recompute the residual units in the backward pass, to save
            memory.
        sync_batchnorm: Share BatchNorm statistics between GPUs.
        loggers: Any of ``csv``, ``tensorboard``, ``wandb``.
        progress: Show a progress bar; default when the output is a terminal.
    """

    seed: int = 0
    output: str = "runs"
    name: str | None = None
    accelerator: str = "auto"
    devices: int | Literal["auto"] = 1
    nodes: int = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "auto"
    channels_last: bool = True
    activation_checkpointing: bool = False
    sync_batchnorm: bool = True
    loggers: list[Literal["csv", "tensorboard", "wandb"]] = field(
        default_factory=lambda: ["csv", "tensorboard"]
    )
    progress: bool | None = None


class ExperimentBase:
    """Base of the configurations: sections, each a dataclass, to and from plain values."""

    @classmethod
    def dependent_defaults(cls, said: Callable[[str], Any]) -> dict[str, Any]:
        """Return defaults of options that depend on other options, by their names.

        Args:
            said: Gives the value that is asked for an option such as ``data.dataset``, or None.
        """
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in checkpoints and ``run.json``."""
        return asdict(self)  # type: ignore[call-overload]  # of the dataclasses that inherit

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a configuration from the values that :meth:`to_dict` returns.

        Raises:
            TypeError: It names an entry that is unknown or of another type, and what was expected.
            KeyError: A section is missing.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"expected an object of sections, found {values!r:.60}")
        values = dict(with_readers_of_today(values))
        for name, kind in get_type_hints(cls).items():
            check_fields(kind, values[name], name)
        return cls(**{name: kind(**values[name]) for name, kind in get_type_hints(cls).items()})
