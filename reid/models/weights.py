"""Backbones that start from weights trained elsewhere: by name (ImageNet) or from a file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid.models.backbones import Backbone, FrameResNet50
from reid.models.torchreid_models import EMBEDDING, MODELS, torchreid_network
from reid.pretrained import PRETRAINED, STARTING_WEIGHTS
from video_snl.config.statistics import STATISTICS
from video_snl.errors import UserError
from video_snl.models.weights.fetching import cached_path, fetch
from video_snl.models.weights.formats import Layout, Translated, network_tensors, translate
from video_snl.models.weights.loading import LoadReport, load_translated
from video_snl.models.weights.sources import locate, read_checkpoint
from video_snl.utils.counts import counts
from video_snl.utils.finite import check_kinds, check_weights

__all__ = ["load_backbone_weights", "load_published", "pretrained_file"]

_IMAGENET = "imagenet"
_STRONG_BASELINE = "reid-strong-baseline"
_RESNETS = ("resnet50", "resnet50_3d", "i3d_r50")
_GEM = "heads.pool_layer.p"  # fast-reid's exponent of generalised-mean pooling
_VIDEO_SNL = "model."  # how names begin in a checkpoint of ``video-snl train``
_COUNTER = "num_batches_tracked"  # files of old PyTorch versions have none, and nothing reads them
_NAMED = 3  # differences that a message names


def load_backbone_weights(
    backbone: Backbone,
    source: str,
    *,
    num_people: int,
    allow_partial: bool = False,
    progress: bool = True,
) -> LoadReport:
    """Load weights from elsewhere into a backbone without blocks, in place.

    A file may hold its tensors in ``state_dict``, ``model_state`` or ``model``, or at the top.
    Their names may have any common beginning (``module.`` of torchreid's checkpoints,
    ``backbone.`` of fast-reid's, ``base.`` of reid-strong-baseline's, ``trunk.`` of our own).
    Kernels of frames are inflated for backbones of clips. A file's temporal head, neck, classifier
    and blocks are never taken over.

    Args:
        backbone: Backbone with new weights.
        source: ``imagenet`` (torchvision's ResNet-50; torchreid's own download for its models), a
            name of :data:`reid.pretrained.PRETRAINED` or
            :data:`~reid.pretrained.STARTING_WEIGHTS`, a file, or an http(s) URL.
        num_people: Number of training identities, for the report.
        allow_partial: Load what matches even if it is little.
        progress: Show the progress of a download.

    Raises:
        UserError: Weights that cannot be had or read, or of a network with other parts (IBN,
            non-local blocks, squeeze-and-excitation); less than 95 % of the backbone's parameters,
            or of the file's, match. The backbone is then as it was.
    """
    name = backbone.name
    architecture = PRETRAINED[name].architecture if name in PRETRAINED else name
    if source == _IMAGENET and architecture in MODELS:
        translated = _torchreid_imagenet(architecture)
    else:
        if source == _IMAGENET and name not in _RESNETS:
            raise UserError(
                f"weights 'imagenet' are a ResNet-50's, which do not fit backbone {name!r}; "
                f"they fit {', '.join(_RESNETS)}, and torchreid has its own for many of its models."
            )
        checkpoint = read_checkpoint(_file(source, name, progress))
        translated = _translated(checkpoint, backbone, source)
    report = load_translated(
        backbone.network,
        translated,
        source,
        backbone=name,
        head=tuple(f"{part}." for part in backbone.left_out),
        allow_partial=allow_partial,
    )
    return replace(report, head=f"{report.head} ({counts(num_people, 'identity')})")


def load_published(backbone: Backbone, path: Path) -> None:
    """Load a file of exactly the backbone's network, apart from the classifier, in place.

    Raises:
        UserError: The file cannot be read, is of another network (the message says which layers
            differ) or of another published dataset, or holds values that are not finite.
    """
    translated = _translated(read_checkpoint(path), backbone, str(path))
    classifier = tuple(f"{part}." for part in backbone.left_out)
    given, wanted = translated.tensors, backbone.network.state_dict()
    check_kinds(given, wanted, f"weights {str(path)!r}")
    differing = [
        f"{name} is {tuple(given[name].shape)} in the file, {tuple(tensor.shape)} in the network"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    absent = [name for name in wanted if name not in given and not name.endswith(_COUNTER)]
    differing += [f"{name} is not in the file" for name in absent]
    more = [name for name in given if name not in wanted and not name.startswith(classifier)]
    differing += [f"{name} is not in the network" for name in (*more, *translated.left_out)]
    if differing:
        rest = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise UserError(
            f"weights {str(path)!r} are not those of {backbone.name}: "
            f"{'; '.join(differing[:_NAMED])}{rest}. A network that was trained with reid train is "
            "used by --checkpoint."
        )
    _check_identities(backbone.name, given, path)
    taken = {name: given[name] for name in wanted if name in given}
    check_weights(taken, f"weights {str(path)!r}")
    backbone.network.load_state_dict(taken, strict=False)


def _check_identities(name: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a file whose classifier, where it has one, is that of another published dataset."""
    classifier, entry = tensors.get("classifier.weight"), PRETRAINED.get(name)
    if classifier is None or entry is None or len(classifier) == entry.identities:
        return
    for key, other in PRETRAINED.items():
        if (other.architecture, other.identities) == (entry.architecture, len(classifier)):
            raise UserError(
                f"weights {str(path)!r} have a classifier of {len(classifier)} identities, that of "
                f"{other.trained_on}, not of {entry.identities} as {name}: give --pretrained {key}."
            )


def pretrained_file(name: str, weights: str | None = None) -> Path:
    """Return the file of a published network's weights.

    Args:
        name: Key of :data:`reid.pretrained.PRETRAINED`, or of those of
            :data:`~reid.pretrained.STARTING_WEIGHTS` that no program can fetch.
        weights: File that was named; None for that in torch hub's cache.

    Raises:
        UserError: There is none; the message says what to fetch and where to put it.
    """
    url = PRETRAINED[name].url if name in PRETRAINED else STARTING_WEIGHTS[name].url
    path = cached_path(f"{name}.pth") if weights is None else Path(weights).expanduser()
    if path.is_file():
        return path
    fault = "is a folder" if path.is_dir() else "is not there"
    advice = f"put it at {path}, or give" if weights is None else "give"
    raise UserError(
        f"{path} {fault}: the weights of {name} are published where no program can fetch them. "
        f"Fetch them from {url} and {advice} the file: --weights FILE of evaluate, extract, "
        "search, identify, serve and export, --model.weights FILE of train."
    )


def _file(source: str, name: str, progress: bool) -> Path:
    known = [*PRETRAINED, *STARTING_WEIGHTS]
    if source in known and not Path(source).is_file():
        start = STARTING_WEIGHTS.get(source)
        if start is None or start.by_hand:
            return pretrained_file(source)
        return fetch(start.url, progress=progress)
    if source != _IMAGENET:
        near = difflib.get_close_matches(source, known, 1, 0.75)
        if near and not (source.startswith(("http://", "https://")) or Path(source).exists()):
            raise UserError(f"weights {source!r}: no such file. Did you mean {near[0]!r}?")
        return locate(source, name, progress=progress)
    # torchvision's models take a second to import and are needed for this address only.
    from torchvision.models import ResNet50_Weights

    return fetch(ResNet50_Weights.IMAGENET1K_V1.url, progress=progress)


def _translated(checkpoint: Mapping[str, Any], backbone: Backbone, source: str) -> Translated:
    """Return a file's tensors under the backbone's names, whatever stands before them there."""
    tensors, blocks = network_tensors(checkpoint)
    wanted = backbone.network.state_dict()
    if backbone.over_time and f"{_VIDEO_SNL}blocks.0.conv.weight" in tensors:
        return translate(checkpoint, _layout(backbone), source)
    # The first tensor is the stem's; a backbone of clips may start from a network of frames.
    beginnings = _beginnings(tensors, next(iter(wanted)))
    if backbone.over_time and not beginnings:
        beginnings = _beginnings(tensors, "conv1.weight")
    if not beginnings:
        raise UserError(
            f"weights {source!r} hold no network that fits: none of their tensors is called "
            f"{next(iter(wanted))}; they start with {', '.join(list(tensors)[:3]) or 'nothing'}. "
            "Choose the backbone they were made for."
        )
    beginning = max(beginnings, key=lambda text: sum(n.startswith(text) for n in tensors))
    inside = {n.removeprefix(beginning): t for n, t in tensors.items() if n.startswith(beginning)}
    left_out = (*(name for name in tensors if not name.startswith(beginning)), *blocks)
    known = _project_of(tensors, beginning)
    note = None if known is None else _note(known, tensors, backbone)
    embedding = inside.get(f"{EMBEDDING}.0.weight")
    if embedding is not None and EMBEDDING in backbone.left_out:
        note = _embedding_note(backbone.name, len(embedding))
    if backbone.over_time:
        return replace(translate(inside, _layout(backbone), source), left_out=left_out, note=note)
    return Translated(known or "network of frames", "imagenet", inside, left_out, note)


def _project_of(tensors: Mapping[str, Tensor], beginning: str) -> str | None:
    """Recognise a file of fast-reid or of reid-strong-baseline by its names; None for others."""
    if beginning == "backbone." and any(name.startswith("heads.") for name in tensors):
        return "fast-reid"
    if beginning == "base." and not {"bottleneck.weight", "classifier.weight"}.isdisjoint(tensors):
        return _STRONG_BASELINE
    return None


def _note(project: str, tensors: Mapping[str, Tensor], backbone: Backbone) -> str:
    """Say what such a file tells of its network beside the backbone, and what it cannot tell."""
    notes = ["Its neck and classifier are left out."]
    if _GEM in tensors:
        exponent = float(tensors[_GEM].flatten()[0])
        notes.append(f"It pooled with GeM (p = {exponent:.2f}); here model.head does it.")
    for name, wanted in zip(("pixel_mean", "pixel_std"), STATISTICS["imagenet"], strict=True):
        given = tensors.get(name)
        if given is not None and not _alike(given, wanted):
            values = ", ".join(f"{value:g}" for value in given.flatten().tolist())
            notes.append(f"Its {name} is {values}; frames are normalised with ImageNet's here.")
    if isinstance(backbone.network, FrameResNet50):
        notes.append(f"{project}'s files do not tell the last stride; it is 1 here.")
    if project == _STRONG_BASELINE:
        notes.append("Its stem had no ReLU; here it has one, as torchvision's.")
    return " ".join(notes)


def _embedding_note(name: str, size: int) -> str | None:
    """Say that an embedding layer is left out, where another backbone keeps it."""
    keeping = [other for other, entry in PRETRAINED.items() if entry.architecture == name]
    if not keeping:
        return None
    return f"Its layer of {size} outputs is left out; backbone {' or '.join(keeping)} keeps it."


def _alike(given: Tensor, wanted: Sequence[float]) -> bool:
    """Compare statistics of values of 0-255 with those of values of 0-1."""
    scaled = 255 * torch.tensor(wanted)
    return given.numel() == 3 and torch.allclose(given.flatten().float(), scaled, atol=0.1)


def _beginnings(tensors: Mapping[str, Tensor], first: str) -> list[str]:
    """List what may stand before names: ``a.`` and ``a.layer1.0.`` for ``conv1.weight``."""
    return [n.removesuffix(first) for n in tensors if f".{n}".endswith(f".{first}")]


def _layout(backbone: Backbone) -> Layout:
    """Return the layout of the network the backbone was cut from, whose head came last."""
    layout = Layout.of(backbone.network)
    return replace(layout, head=layout.head + 1)


def _torchreid_imagenet(name: str) -> Translated:
    """Return the tensors that torchreid's own download changes in its network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = torchreid_network(name).state_dict()
        torch.manual_seed(0)
        try:
            loaded = torchreid_network(name, pretrained=True).state_dict()
        # gdown, urllib and torch.load each have errors of their own, which stay the cause.
        except Exception as error:
            raise UserError(
                f"weights 'imagenet': torchreid cannot fetch its weights of {name} ({error}). "
                "Take the file from torchreid's cache or its model zoo and pass it: "
                "--model.weights FILE."
            ) from error
    same = {key for key, tensor in loaded.items() if torch.equal(tensor, new[key])}
    if len(same) == len(loaded):
        raise UserError(
            f"weights 'imagenet': torchreid downloads none for {name}. Take the file from its "
            "model zoo and pass it: --model.weights FILE."
        )
    # Zeros and ones may well be what the file has, too; numbers that were drawn are not.
    drawn = {key for key in same if loaded[key].unique().numel() > 1}
    taken = {key: tensor for key, tensor in loaded.items() if key not in drawn}
    return Translated(f"torchreid's {name}", "imagenet", taken)
