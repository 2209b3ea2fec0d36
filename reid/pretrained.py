"""Re-ID networks with published weights, used by name and without any training. Without torch.

To add one, write an entry of :data:`PRETRAINED`: its key is a choice of ``--pretrained``, of
``model.backbone`` (the network with its layer from the pooled map to the vector) and of
``model.weights``. Weights that a training may start from, of a network that is not exactly ours,
are entries of :data:`STARTING_WEIGHTS`. What a publisher says is kept as it was published.
"""

from __future__ import annotations

from dataclasses import dataclass

from reid.config import HeadName, ReidDataConfig, ReidExperiment, ReidModelConfig, ResizeName
from video_snl.errors import UserError
from video_snl.utils.text import meant

__all__ = [
    "PRETRAINED",
    "STARTING_WEIGHTS",
    "PretrainedReid",
    "StartingWeights",
    "check_pretrained",
    "describe_input",
    "recipe_experiment",
]


@dataclass(frozen=True, kw_only=True)
class PretrainedReid:
    """A network of torchreid with published weights, and the input these were made for.

    Attributes:
        architecture: Name of the network in torchreid.
        trained_on: Dataset of the weights, in words.
        identities: Rows of the classifier that it was trained with.
        accuracy: Published rank-1 and mAP of single images, in per cent.
        measured_on: Dataset that these were measured on, in words.
        url: Address of the file, from which no program can fetch it.
        licence: Licence of the weights or, where that is all there is, of the code they come with.
        height, width: Size of its images.
        resize: What resizes them.
        head: How the vectors of the frames become one.
    """

    architecture: str
    trained_on: str
    identities: int
    accuracy: tuple[float, float]
    measured_on: str
    url: str
    licence: str = "MIT"
    height: int = 256
    width: int = 128
    resize: ResizeName = "pillow"
    head: HeadName = "normalised_mean"


_Zoo = tuple[str, tuple[float, float]]  # key of a file on Google Drive, and published accuracy


def _same_domain(architecture: str, market: _Zoo, msmt: _Zoo) -> dict[str, PretrainedReid]:
    """Return the entries of a row of the table "Same-domain ReID" of torchreid's model zoo."""
    return {
        f"{architecture}_{suffix}": PretrainedReid(
            architecture=architecture,
            trained_on=dataset,
            identities=identities,
            accuracy=accuracy,
            measured_on=dataset,
            url=_drive(key),
        )
        for suffix, dataset, identities, (key, accuracy) in (
            ("market1501", "Market-1501", 751, market),
            ("msmt17", "MSMT17", 1041, msmt),
        )
    }


def _cross_domain(architecture: str, key: str, accuracy: tuple[float, float]) -> PretrainedReid:
    """Return the entry of a row of its table of networks trained on all images of MSMT17."""
    return PretrainedReid(
        architecture=architecture,
        trained_on="all images of MSMT17",
        identities=4101,
        accuracy=accuracy,
        measured_on="Market-1501",
        url=_drive(key),
    )


def _drive(key: str) -> str:
    return f"https://drive.google.com/file/d/{key}/view"


PRETRAINED: dict[str, PretrainedReid] = {
    **_same_domain(
        "osnet_x0_25",
        ("1z1UghYvOTtjx7kEoRfmqSMu-z62J6MAj", (91.2, 75.0)),
        ("1sSwXSUlj4_tHZequ_iZ8w_Jh0VaRQMqF", (61.4, 29.5)),
    ),
    **_same_domain(
        "osnet_x0_5",
        ("1PLB9rgqrUM7blWrg4QlprCuPT7ILYGKT", (92.5, 79.8)),
        ("1UT3AxIaDvS2PdxzZmbkLmjtiqq7AIKCv", (69.7, 37.5)),
    ),
    **_same_domain(
        "osnet_x0_75",
        ("1ozRaDSQw_EQ8_93OUmjDbvLXw9TnfPer", (93.7, 81.2)),
        ("1QEGO6WnJ-BmUzVPd3q9NoaO_GsPNlmWc", (72.8, 41.4)),
    ),
    **_same_domain(
        "osnet_x1_0",
        ("1vduhq5DpN2q1g4fYEZfPI17MJeh9qyrA", (94.2, 82.6)),
        ("112EMUfBPYeYg70w-syK6V6Mx8-Qb9Q1M", (74.9, 43.8)),
    ),
    **_same_domain(
        "resnet50_fc512",
        ("1kv8l5laX_YCdIGVCetjlNdzKIA3NvsSt", (90.8, 75.3)),
        ("1fDJLcz4O5wxNSUvImIIjoaIF9u1Rwaud", (69.6, 38.4)),
    ),
    **_same_domain(
        "mobilenetv2_x1_0",
        ("18DgHC2ZJkjekVoqBWszD8_Xiikz-fewp", (85.6, 67.3)),
        ("1j50Hv14NOUAg7ZeB3frzfX-WYLi7SrhZ", (57.4, 29.3)),
    ),
    **_same_domain(
        "mobilenetv2_x1_4",
        ("1t6JCqphJG-fwwPVkRLmGGyEBhGOf2GO5", (87.0, 68.5)),
        ("1ZY5P2Zgm-3RbDpbXM0kIBMPvspeNIbXz", (60.1, 31.5)),
    ),
    "osnet_ibn_x1_0_msmt17": _cross_domain(
        "osnet_ibn_x1_0", "1q3Sj2ii34NlfxA4LvmHdWO_75NDRmECJ", (66.5, 37.2)
    ),
    "osnet_ain_x1_0_msmt17": _cross_domain(
        "osnet_ain_x1_0", "1SigwBE6mPdqiJMqhuIY4aqC7--5CsMal", (70.1, 43.3)
    ),
}
"""Networks by name, as torchreid's model zoo publishes them.

https://github.com/KaiyangZhou/deep-person-reid/blob/master/docs/MODEL_ZOO.md
"""


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """Published weights that a training may start from.

    Attributes:
        backbone: Name of the backbone they fit.
        trained_on: Dataset of the weights, in words.
        accuracy: Published rank-1 and mAP on it, in per cent.
        url: Address of the file.
        by_hand: No program can fetch it.
        licence: Licence of the code they come with.
    """

    backbone: str = "resnet50"
    trained_on: str
    accuracy: tuple[float, float]
    url: str
    by_hand: bool = False
    licence: str


_FAST_REID = "https://github.com/JDAI-CV/fast-reid/releases/download/v0.1.1/"

STARTING_WEIGHTS: dict[str, StartingWeights] = {
    "fastreid_bot_r50_market1501": StartingWeights(
        trained_on="Market-1501",
        accuracy=(94.4, 86.1),
        url=f"{_FAST_REID}market_bot_R50.pth",
        licence="Apache-2.0",
    ),
    "fastreid_bot_r50_msmt17": StartingWeights(
        trained_on="MSMT17",
        accuracy=(74.1, 50.2),
        url=f"{_FAST_REID}msmt_bot_R50.pth",
        licence="Apache-2.0",
    ),
    "strong_baseline_r50_market1501": StartingWeights(
        trained_on="Market-1501",
        accuracy=(94.5, 85.9),
        url="https://drive.google.com/open?id=1hn0sXLZ5yJcxtmuY-ItQfYD7hBtHwt7A",
        by_hand=True,
        licence="MIT",
    ),
}
"""Weights by name, of fast-reid's model zoo and of reid-strong-baseline."""


def check_pretrained(name: str) -> PretrainedReid:
    """Return the entry of a network.

    Raises:
        UserError: There is none of this name; the message has the nearest ones.
    """
    if name in PRETRAINED:
        return PRETRAINED[name]
    if name in STARTING_WEIGHTS:
        raise UserError(
            f"--pretrained {name}: a training may start from these weights, reid train "
            f"--model.backbone {STARTING_WEIGHTS[name].backbone} --model.weights {name}; they are "
            "not used without one"
        )
    raise UserError(
        f"--pretrained {name!r}: no Re-ID network of this name has published weights; "
        f"{meant(name, PRETRAINED)}"
    )


def recipe_experiment(name: str) -> ReidExperiment:
    """Return the configuration of a published network: its input, no neck and no blocks.

    Raises:
        UserError: There is none of this name.
    """
    entry = check_pretrained(name)
    # Chunks of one frame: the mean over the chunks of a tracklet is that over all its frames.
    data = ReidDataConfig(frames=1, height=entry.height, width=entry.width, resize=entry.resize)
    model = ReidModelConfig(backbone=name, head=entry.head, neck=False, block="none")
    return ReidExperiment(data=data, model=model)


def describe_input(name: str) -> str:
    """Describe in one line what a published network was trained on and what it sees.

    Raises:
        UserError: There is none of this name.
    """
    entry = check_pretrained(name)
    return (
        f"{name}, trained on {entry.trained_on} ({entry.licence}): images of {entry.height} x "
        f"{entry.width}, resized by Pillow; the mean of their vectors, each divided by its norm"
    )
