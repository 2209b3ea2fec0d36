"""RandAugment and colour jitter: what is drawn, and what is done to clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tests.videos import write_video
from video_snl.config.video import DataConfig
from video_snl.data.loading.samplers import sample_generator
from video_snl.data.transforms.augment import (
    OPERATIONS,
    augment_clips,
    check_augmentation,
    draw_augmentation,
    jitter_colours,
    scale_pairs,
)
from video_snl.data.video.dataset import ClipDataset, EpochSampler, make_loader
from video_snl.data.video.records import Video
from video_snl.errors import UserError

CONFIG = DataConfig(clip_frames=4, short_side=24, crop=20)
ALL = replace(CONFIG, crop_scales=[1, 0.75, 0.5], color_jitter=0.4, hue_jitter=0.1, rand_augment=2)
# Names in torchvision's table of RandAugment.
ORIGINAL = {name: "".join(part.title() for part in name.split("_")) for name in OPERATIONS} | {
    "autocontrast": "AutoContrast"
}
WHOLE_CLIP = ("contrast", "autocontrast", "equalize")


def noise_clip(frames: int, seed: int = 0) -> torch.Tensor:
    """A clip (T, h, w, 3) of different frames, none of which uses all values."""
    random = torch.Generator().manual_seed(seed)
    clip = torch.randint(30, 200, (frames, 12, 17, 3), generator=random)
    return (clip + 10 * torch.arange(frames)[:, None, None, None]).to(torch.uint8)


def original(name: str, frames: torch.Tensor, magnitude: int, sign: float) -> torch.Tensor:
    """torchvision's RandAugment on frames (..., 3, h, w), with the choice taken from it."""
    transform = v2.RandAugment(magnitude=magnitude)
    ranges, signed = transform._AUGMENTATION_SPACE[ORIGINAL[name]]
    values = ranges(31, *frames.shape[-2:])
    value = 0.0 if values is None else float(values[magnitude]) * (sign if signed else 1)
    return transform._apply_image_or_video_transform(
        frames, ORIGINAL[name], value, interpolation=transform.interpolation, fill={}
    )


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("magnitude", [1, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_that_of_the_paper(name: str, magnitude: int, sign: float) -> None:
    clip = noise_clip(1)
    expected = original(name, clip.permute(0, 3, 1, 2), magnitude, sign).permute(0, 2, 3, 1)
    result = OPERATIONS[name](clip, sign * magnitude / 30)
    assert result.dtype == torch.uint8
    # 0.3 * 9 / 30 and the 9th of linspace(0, 0.3, 31) may differ in their last bit.
    assert (result.int() - expected.int()).abs().max() <= 1
    assert torch.equal(clip, noise_clip(1))


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in WHOLE_CLIP])
def test_operation_treats_frames_one_by_one(name: str) -> None:
    clip = noise_clip(5)
    together = OPERATIONS[name](clip, 0.7)
    for frame, result in zip(clip.split(1), together.split(1), strict=True):
        assert torch.equal(OPERATIONS[name](frame, 0.7), result)


@pytest.mark.parametrize("name", OPERATIONS)
def test_still_clip_stays_still(name: str) -> None:
    result = OPERATIONS[name](noise_clip(1).expand(4, -1, -1, -1), -0.7)
    assert torch.equal(result, result[:1].expand(4, -1, -1, -1))


@pytest.mark.parametrize("name", WHOLE_CLIP)
def test_operation_makes_one_change_of_values(name: str) -> None:
    """The same value becomes the same one in every frame: a clip does not flicker."""
    clip = noise_clip(3)
    result = OPERATIONS[name](clip, 0.7)
    assert not torch.equal(result, clip)
    for channel in range(3):
        pairs = torch.stack([clip[..., channel].flatten(), result[..., channel].flatten()])
        assert len(pairs.unique(dim=1).T) == len(pairs[0].unique())


def test_jitter_is_the_plain_one_per_frame() -> None:
    clip, factors = noise_clip(3), (1.3, 0.6, 1.2, -0.2)
    result = jitter_colours(clip, (2, 0, 3, 1), factors)
    frames = clip.permute(0, 3, 1, 2)
    frames = functional.adjust_saturation(frames, 1.2)
    frames = functional.adjust_brightness(frames, 1.3)
    frames = functional.adjust_hue(frames, -0.2)
    mean = functional.rgb_to_grayscale(frames).float().mean()  # of all frames
    expected = (0.6 * frames.float() + 0.4 * mean).clamp(0, 255).permute(0, 2, 3, 1)
    torch.testing.assert_close(result.float(), expected, atol=1.5, rtol=0)
    assert torch.equal(jitter_colours(clip, (0, 1, 2, 3), (1.0, 1.0, 1.0, 0.0)), clip)


def test_every_clip_of_a_batch_has_its_own() -> None:
    video = torch.stack([noise_clip(2, seed) for seed in range(3)])
    jitter = torch.tensor(
        [[0, 1, 2, 3, 1, 1, 1, 0], [3, 2, 1, 0, 0.5, 1, 1, 0.1], [0, 1, 2, 3, 1.4, 1, 1, 0]]
    )
    operations = torch.tensor([[[0, 1], [5, -1]], [[0, 1], [0, 1]], [[3, 1], [13, 1]]]).float()
    with torch.autocast("cpu", torch.bfloat16):  # it must not matter
        result = augment_clips(video, jitter, operations, 9)
    rotated = OPERATIONS["rotate"](video[0], -0.3)
    shifted = OPERATIONS["equalize"](OPERATIONS["translate_x"](video[2], 0.3), 0.3)
    assert torch.equal(result[0], rotated)
    assert torch.equal(result[1], jitter_colours(video[1], (3, 2, 1, 0), (0.5, 1, 1, 0.1)))
    assert torch.equal(result[2], jitter_colours(shifted, (0, 1, 2, 3), (1.4, 1, 1, 0)))
    assert augment_clips(video, None, None, 9) is video


def test_nothing_is_drawn_by_default() -> None:
    random, plain = sample_generator(0, 0, 0), sample_generator(0, 0, 0)
    assert draw_augmentation(CONFIG, random) == {}
    assert random.random() == plain.random()


def test_what_is_drawn() -> None:
    draws = [draw_augmentation(ALL, sample_generator(1, 2, i)) for i in range(400)]
    assert {name: x.shape for name, x in draws[0].items()} == {
        "scale": (2,),
        "jitter": (8,),
        "operations": (2, 2),
    }
    pairs = {tuple(x["scale"].tolist()) for x in draws}
    assert pairs == set(scale_pairs(ALL.crop_scales)) and (1.0, 0.5) not in pairs
    jitter = torch.stack([x["jitter"] for x in draws])
    assert torch.equal(jitter[:, :4].sort().values, torch.arange(4.0).expand(400, 4))
    assert len({tuple(order) for order in jitter[:, :4].tolist()}) == 24
    for column, middle, most in ((4, 1, 0.4), (5, 1, 0.4), (6, 1, 0.4), (7, 0, 0.1)):
        values = jitter[:, column] - middle
        assert values.abs().max() <= most + 1e-6
        assert values.min() < -0.9 * most and values.max() > 0.9 * most
    operations = torch.stack([x["operations"] for x in draws])
    assert set(operations[..., 0].flatten().tolist()) == set(range(len(OPERATIONS)))
    assert set(operations[..., 1].flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("field", ["crop_scales", "color_jitter", "rand_augment"])
def test_options_do_not_depend_on_each_other(field: str) -> None:
    alone = replace(CONFIG, **{field: getattr(ALL, field)})
    [(name, value)] = draw_augmentation(alone, sample_generator(1, 2, 3)).items()
    together = draw_augmentation(ALL, sample_generator(1, 2, 3))[name]
    if field == "color_jitter":
        together[7] = 0  # no hue alone
    assert torch.equal(value, together)


def test_scale_pairs() -> None:
    assert scale_pairs([1.0]) == [(1.0, 1.0)]
    assert scale_pairs([1, 0.8, 0.6]) == [
        *[(1, 1), (1, 0.8)],
        *[(0.8, 1), (0.8, 0.8), (0.8, 0.6)],
        *[(0.6, 0.8), (0.6, 0.6)],
    ]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    folder = tmp_path_factory.mktemp("videos")
    return [Video(str(write_video(folder / f"{i}.avi", 12 + i)), i) for i in range(5)]


def test_samples_do_not_depend_on_the_workers(videos: list[Video]) -> None:
    config, epochs = replace(ALL, sampling="uniform"), []
    for num_workers in (0, 2):
        sampler = EpochSampler(len(videos), 1)
        sampler.set_epoch(3)
        dataset = ClipDataset(videos, config, seed=1)
        epochs.append(list(make_loader(dataset, sampler, 2, num_workers, pin_memory=False)))
    assert len(epochs[0]) == 3
    for alone, spread in zip(*epochs, strict=True):
        assert {"scale", "jitter", "operations"} < alone.keys() == spread.keys()
        for name in alone:
            assert torch.equal(alone[name], spread[name]), name


def test_augmentation_leaves_clip_crop_and_flip_as_they_are(videos: list[Video]) -> None:
    plain, augmented = ClipDataset(videos, CONFIG, 0)[4, 3], ClipDataset(videos, ALL, 0)[4, 3]
    assert {"video", "offset", "flip"} <= plain.keys()
    for name in plain:
        assert torch.equal(plain[name], augmented[name]), name


def test_uniform_sampling_spans_the_video(videos: list[Video]) -> None:
    dataset = ClipDataset(videos, replace(CONFIG, sampling="uniform"), seed=0)
    seen = np.stack(
        [dataset[epoch, 0]["video"].float().mean((1, 2, 3)).numpy() / 10 for epoch in range(40)]
    ).round()
    for segment in range(4):  # of three frames
        assert set(seen[:, segment]) == {3 * segment, 3 * segment + 1, 3 * segment + 2}
    assert len({tuple(row - row[0]) for row in seen}) > 5  # drawn one by one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_scales": [1, 0]}, r"data.crop_scales=\[1, 0\] holds 0: shares"),
        ({"crop_scales": [1.2]}, "holds 1.2"),
        ({"crop_scales": [float("nan")]}, "holds nan"),
        ({"crop_scales": [0.01]}, "holds 0.01"),
        ({"color_jitter": 1.1}, "data.color_jitter=1.1: give 0 to 1.0"),
        ({"color_jitter": -0.1}, "data.color_jitter=-0.1"),
        ({"hue_jitter": 0.6}, "data.hue_jitter=0.6: give 0 to 0.5"),
        ({"hue_jitter": float("nan")}, "data.hue_jitter=nan"),
        ({"rand_augment": -1}, "data.rand_augment=-1: give 0 to 10"),
        ({"rand_augment_magnitude": 31}, "data.rand_augment_magnitude=31: give 0 to 30"),
    ],
)
def test_senseless_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_augmentation(replace(CONFIG, **options))
    with pytest.raises(UserError, match=message):
        ClipDataset([], replace(CONFIG, **options), seed=0)
