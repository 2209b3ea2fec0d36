"""Start a backbone from weights trained elsewhere, and say what was taken over."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.errors import UserError
from video_snl.models.released.blocks import load_reference_block
from video_snl.models.weights.formats import (
    Layout,
    Statistics,
    Translated,
    other_parts,
    own_names,
    translate,
)
from video_snl.models.weights.sources import locate, read_checkpoint
from video_snl.utils.counts import counts
from video_snl.utils.finite import check_kinds, check_weights

__all__ = [
    "LoadReport",
    "ShapeMismatch",
    "classifier",
    "load_backbone_weights",
    "load_reference_block",
    "load_translated",
]

_ENOUGH = 0.95
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class ShapeMismatch:
    """A tensor that both have, in two shapes."""

    name: str
    file_shape: tuple[int, ...]
    model_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} is {self.file_shape} in the file, {self.model_shape} in the network"


@dataclass(frozen=True)
class LoadReport:
    """Report on loading a file of weights. Names are the network's, in the order it has them.

    Attributes:
        source: as it was asked for.
        format: in which it was read.
        matched: tensors taken over, the head's among them if it was.
        new: tensors of the network that the file does not have: they start untrained.
        dropped: tensors of the file that the network does not have.
        head: how the classifier was treated, in words.
        head_dropped: tensors of the file's classifier that were left out.
        shape_mismatches: tensors of the backbone that both have, in two shapes.
        matched_fraction: share of the backbone's parameters (elements, without the classifier)
            that were taken over.
        used_fraction: share of the parameters in the file (without its classifier and inserted
            blocks) that were taken over; below 1 for a bigger network.
        statistics: the input normalisation the weights were trained with, a key of
            ``video_snl.config.statistics.STATISTICS``, or ``unknown`` (of networks of images).
        note: anything else to know about this file.
    """

    source: str
    format: str
    matched: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    head: str
    head_dropped: tuple[str, ...]
    shape_mismatches: tuple[ShapeMismatch, ...]
    matched_fraction: float
    used_fraction: float
    statistics: Statistics
    note: str | None = None

    def summary(self) -> str:
        """Return the report as a few lines."""
        lines = [
            f"Weights {self.source} ({self.format}): {self.matched_fraction:.1%} of the "
            f"backbone's parameters matched, {len(self.matched)} tensors.",
            f"  head: {self.head}",
        ]
        details = {
            "new": self.new,
            "dropped": self.dropped,
            "other shapes": tuple(map(str, self.shape_mismatches)),
        }
        lines += [f"  {key}: {_some(names)}" for key, names in details.items() if names]
        lines.append(f"  input statistics: {self.statistics}")
        if self.note:
            lines.append(f"  note: {self.note}")
        return "\n".join(lines)


def load_backbone_weights(
    model: nn.Module,
    source: str,
    *,
    backbone: str,
    allow_partial: bool = False,
    progress: bool = True,
) -> LoadReport:
    """Load weights from elsewhere into a bare backbone, in place.

    Kernels of 2D networks are inflated as in I3D (arXiv:1705.07750): repeated T times along time
    and divided by T, so that a video of one repeated frame is answered as the frame was. The
    classifier is taken over only where it has the same shape.

    Args:
        model: a network of :data:`video_snl.config.backbones.VIDEO_BACKBONES` without inserted
            blocks.
        source: ``kinetics``, ``imagenet``, a file, or an http(s) URL; the formats are those of
            :func:`video_snl.models.weights.formats.translate`.
        backbone: its name.
        allow_partial: load what matches even if it is little, or if the file's network is bigger.
        progress: show the progress of a download.

    Raises:
        UserError: for weights that cannot be had or read, of a network with other parts, or when
            less than 95 % of the backbone's parameters, or of the file's, match; the model is then
            as it was.
        ValueError: for a model that holds inserted blocks already.
    """
    if inserted_blocks(model):
        raise ValueError("load weights before inserting blocks: insertion changes the names.")
    checkpoint = read_checkpoint(locate(source, backbone, progress=progress))
    entry = VIDEO_BACKBONES[backbone]
    if entry.resnet:
        translated = translate(checkpoint, Layout.of(model), source)
    else:
        translated = own_names(checkpoint, entry.statistics)
    return load_translated(
        model,
        translated,
        source,
        backbone=backbone,
        head=(f"{classifier(model)}.",),
        allow_partial=allow_partial,
    )


def classifier(model: nn.Module) -> str:
    """Return the name of a network's classifier: its last linear layer outside inserted blocks.

    Of a network without linear layers, such as S3D, it is the last convolution.
    """
    blocks = {m for block in inserted_blocks(model).values() for m in block.modules()}
    layers = [(name, m) for name, m in model.named_modules() if m not in blocks]
    linear = [name for name, m in layers if isinstance(m, nn.Linear)]
    return (linear or [name for name, m in layers if isinstance(m, nn.Conv3d)])[-1]


def load_translated(
    model: nn.Module,
    translated: Translated,
    source: str,
    *,
    backbone: str,
    head: tuple[str, ...],
    allow_partial: bool = False,
) -> LoadReport:
    """Load tensors that have the names of ``model``, in place.

    Args:
        source, backbone: for the report and messages.
        head: how the names of the classifier begin, whether the model has one or only the file.
        allow_partial: as for :func:`load_backbone_weights`.

    Raises:
        UserError: when too little matches, or what does is not finite; the model is then as it was.
    """
    check_kinds(translated.tensors, model.state_dict(), f"weights {source!r}")
    taken, report = _match(model, translated, head, source)
    _check(report, backbone, allow_partial, lacking=translated.lacking)
    check_weights(taken, f"weights {source!r}")
    model.load_state_dict(taken, strict=False)
    return report


def _match(
    model: nn.Module, translated: Translated, head: tuple[str, ...], source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    wanted, given = model.state_dict(), translated.tensors
    fitted = {name: _fit(given[name], wanted[name]) for name in wanted if name in given}
    taken = {name: tensor for name, tensor in fitted.items() if tensor is not None}
    differing = [name for name in fitted if name not in taken]
    # Files of old PyTorch versions have no batch counters, and nothing here reads them.
    new = [n for n in wanted if n not in given and not n.endswith("num_batches_tracked")]
    parameters = {n: p.numel() for n, p in model.named_parameters() if not n.startswith(head)}
    offered = {
        name: tensor.numel()
        for name, tensor in given.items()
        if not name.startswith(head) and not name.endswith(_BUFFERS)
    }
    report = LoadReport(
        source=source,
        format=translated.format,
        matched=tuple(taken),
        new=tuple(name for name in new if not name.startswith(head)),
        dropped=(*_dropped(wanted, given, head), *translated.left_out),
        head=_head_line(wanted, given, taken, head),
        head_dropped=tuple(n for n in given if n.startswith(head) and n not in taken),
        shape_mismatches=tuple(
            ShapeMismatch(name, tuple(given[name].shape), tuple(wanted[name].shape))
            for name in differing
            if not name.startswith(head)
        ),
        matched_fraction=_share(parameters, taken),
        used_fraction=_share(offered, taken),
        statistics=translated.statistics,
        note=translated.note,
    )
    return taken, report


def _fit(tensor: Tensor, target: Tensor) -> Tensor | None:
    """Return ``tensor`` in the target's shape, a 2D kernel inflated; None where it does not fit."""
    if tensor.shape == target.shape:
        return tensor
    if tensor.ndim == 4 and target.ndim == 5:
        frames = target.shape[2]
        if (*tensor.shape[:2], frames, *tensor.shape[2:]) == tuple(target.shape):
            return (tensor / frames).unsqueeze(2).expand_as(target)
    return None


def _share(sizes: dict[str, int], taken: dict[str, Tensor]) -> float:
    total = sum(sizes.values())
    return sum(size for name, size in sizes.items() if name in taken) / total if total else 0.0


def _dropped(
    wanted: dict[str, Tensor], given: dict[str, Tensor], head: tuple[str, ...]
) -> list[str]:
    """List tensors that the model lacks; without those of a head where it has none at all."""
    headless = not any(name.startswith(head) for name in wanted)
    unknown = (name for name in given if name not in wanted)
    return [name for name in unknown if not (headless and name.startswith(head))]


def _head_line(
    wanted: dict[str, Tensor],
    given: dict[str, Tensor],
    taken: dict[str, Tensor],
    head: tuple[str, ...],
) -> str:
    weight = f"{head[0]}weight"
    if weight not in wanted:
        return "new; the file's is dropped" if any(n.startswith(head) for n in given) else "new"
    classes = wanted[weight].shape[0]
    if weight in taken:
        return f"taken over, {counts(classes, 'class')}"
    if weight in given:
        theirs = counts(given[weight].shape[0], "class")
        return f"new, {counts(classes, 'class')}; the file's, {theirs}, is dropped"
    return f"new, {counts(classes, 'class')}; the file has none"


def _check(
    report: LoadReport, backbone: str, allow_partial: bool, *, lacking: tuple[str, ...]
) -> None:
    parts = [f"the file has {part}" for part in other_parts(report.dropped)]
    parts += [f"the backbone has {part}" for part in (*other_parts(report.new), *lacking)]
    if parts and not allow_partial:
        raise UserError(
            f"weights {report.source!r} ({report.format}) are of another network than backbone "
            f"{backbone}: {', '.join(parts)}, and the other has not. Choose the backbone they were "
            "made for, or start from what matches with --model.allow_partial_weights true."
        )
    enough = min(report.matched_fraction, report.used_fraction) >= _ENOUGH
    if enough or (allow_partial and report.matched_fraction > 0):
        return
    differences = [str(mismatch) for mismatch in report.shape_mismatches]
    differences += [f"{name} is not in the file" for name in report.new]
    differences += [f"{name} is not in the network" for name in report.dropped]
    advice = "Choose the backbone they were made for"
    if report.matched_fraction > 0:
        advice += ", or load what matches with --model.allow_partial_weights true"
    raise UserError(
        f"weights {report.source!r} ({report.format}) do not fit backbone {backbone}: "
        f"{report.matched_fraction:.1%} of its parameters match and {report.used_fraction:.1%} of "
        f"the file's are used, {_ENOUGH:.0%} of both are needed. "
        f"{_some(differences, '; ', shown=2)}. {advice}."
    )


def _some(items: list[str] | tuple[str, ...], separator: str = ", ", shown: int = 5) -> str:
    rest = f" and {len(items) - shown} more" if len(items) > shown else ""
    return separator.join(items[:shown]) + rest
