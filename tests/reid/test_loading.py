"""Loading of tracklets: the frames, their size, and unreadable ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid.config import ReidDataConfig
from reid.data.loading import PieceDataset, SampledDataset, TrackletDataset, in_order, make_loader
from reid.data.samplers import IdentitySampler
from reid.data.tracklet import Tracklet
from reid.models.network import TrackletNet, TrackletOutput
from reid.retrieval.encode import encode
from tests.reid.stuck import Stuck
from tests.videos import write_video
from video_snl.data.loading.quarantine import Quarantine
from video_snl.errors import OptionsError, UserError

CONFIG = ReidDataConfig(frames=4, height=8, width=4, num_workers=0, pad=0)


def grey(folder: Path, levels: list[int | None], person: int = 1, camera: int = 0) -> Tracklet:
    """Frames of one level each; None is a file that is not an image."""
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        path = folder / f"{number:03}.png"
        if level is None:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(np.full((8, 4, 3), level, dtype=np.uint8)).save(path)
    return Tracklet(tuple(str(p) for p in sorted(folder.iterdir())), person, camera)


def levels(video: torch.Tensor) -> list[int]:
    return video[:, 0, 0, 0].tolist()


class Levels(torch.nn.Module):
    """A "network" whose feature is the mean level of a chunk, and the chunk's first level."""

    feature_dim = 2

    def forward(self, clips: torch.Tensor, mask: torch.Tensor) -> TrackletOutput:
        assert mask.all(), "no rule is given"
        grey = clips[:, 0] * 0.229 * 255 + 0.485 * 255
        features = torch.stack([grey.mean((1, 2, 3)), grey[:, 0, 0, 0]], 1)
        return TrackletOutput(features, features, features)


def features(tracklets: list[Tracklet], **options: object) -> list[list[float]]:
    network: TrackletNet = Levels()  # type: ignore[assignment]
    found = encode(network, tracklets, CONFIG, **options)  # type: ignore[arg-type]
    return [[round(value) for value in row] for row in found.features.tolist()]


def test_one_random_frame_of_each_part_in_the_order_of_time(tmp_path: Path) -> None:
    tracklet = grey(tmp_path / "a", list(range(10)))
    dataset = TrackletDataset([tracklet], {1: 0}, CONFIG, seed=0)
    parts = [range(0, 2), range(2, 5), range(5, 7), range(7, 10)]
    seen: list[set[int]] = [set() for _ in parts]
    for epoch in range(60):
        shown = levels(dataset[epoch, 0]["video"])
        for part, index, places in zip(parts, shown, seen, strict=True):
            assert index in part
            places.add(index)
    assert [sorted(places) for places in seen] == [list(part) for part in parts]


def test_short_tracklets_are_repeated(tmp_path: Path) -> None:
    tracklet = grey(tmp_path / "a", [10, 20, 30])
    assert levels(TrackletDataset([tracklet], {1: 0}, CONFIG, 0)[0, 0]["video"]) == [10, 20, 30, 10]
    assert levels(SampledDataset([tracklet], CONFIG).sample((0, 0), 0)["video"]) == [10, 20, 30, 10]


def test_a_sample_is_a_function_of_its_key(tmp_path: Path) -> None:
    tracklet = grey(tmp_path / "a", list(range(40)))
    dataset = TrackletDataset([tracklet], {1: 0}, CONFIG, seed=0)
    for key in ((3, 0), (3, 0, 1)):
        first, again = dataset[key], dataset[key]
        assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [dataset[3, 0, time]["offset"].tolist() for time in range(3)]
    assert drawn[0] == dataset[3, 0]["offset"].tolist() and len(set(map(tuple, drawn))) == 3


def test_frames_are_resized_to_the_size_of_the_configuration(tmp_path: Path) -> None:
    Image.new("RGB", (37, 61), (200, 10, 30)).save(tmp_path / "0.jpg", quality=95)
    Image.new("L", (5, 3), 90).save(tmp_path / "1.png")
    frames = tuple(str(tmp_path / name) for name in ("0.jpg", "1.png"))
    video = SampledDataset([Tracklet(frames, 1, 0)], CONFIG, 2).sample((0, 0), 0)["video"]
    assert video.shape == (2, 8, 4, 3) and video.dtype == torch.uint8
    assert (video[0].float() - torch.tensor([200.0, 10, 30])).abs().max() < 4
    assert (video[1] == 90).all(), "grey images become RGB"


def test_unreadable_frames_are_replaced_by_the_nearest_and_counted(tmp_path: Path) -> None:
    tracklet = grey(tmp_path / "a", [0, None, 2, 3, None, None, 6, 7])
    sample = SampledDataset([tracklet], CONFIG, 8).sample((0, 0), 0)
    assert levels(sample["video"]) == [0, 0, 2, 3, 3, 6, 6, 7]
    assert int(sample["skipped"]) == 3
    assert int(sample["frames"]) == 5, "0, 2, 3, 6 and 7"
    short = SampledDataset([grey(tmp_path / "b", [1, 2, 3])], CONFIG, 8).sample((0, 0), 0)
    assert int(short["frames"]) == 3 and int(short["skipped"]) == 0


def test_whole_tracklets_are_means_over_chunks(tmp_path: Path) -> None:
    tracklets = [
        grey(tmp_path / "eight", list(range(0, 80, 10))),
        grey(tmp_path / "six", list(range(0, 60, 10))),
        grey(tmp_path / "three", [10, 20, 60]),
    ]
    # Chunks 0-3 and 4-7; 0-3 and 2-5, the last four; 0 1 2 0.
    assert features(tracklets) == [[35, 20], [25, 10], [25, 10]]


def test_long_tracklets_come_in_pieces_of_which_the_chunks_are_the_same(tmp_path: Path) -> None:
    tracklet = grey(tmp_path / "a", list(range(66)))
    dataset = PieceDataset([tracklet], CONFIG)
    assert [(piece.start, piece.stop) for piece in dataset.items] == [(0, 64), (62, 66)]
    assert [int(dataset.sample((0, i), i)["frames"]) for i in range(2)] == [64, 2]
    starts = [*range(0, 64, 4), 62]
    mean = sum(start + 1.5 for start in starts) / len(starts)
    assert features([tracklet]) == [[round(mean), round(sum(starts) / len(starts))]]


def test_evaluation_skips_and_counts_unreadable_frames(tmp_path: Path) -> None:
    tracklets = [
        grey(tmp_path / "a", [None, 10, 20, None, 30, 40]),
        grey(tmp_path / "none", [None, None]),
        grey(tmp_path / "sound", [50]),
    ]
    network: TrackletNet = Levels()  # type: ignore[assignment]
    quarantine = Quarantine(None, 1.0, "tracklets")
    found = encode(network, tracklets, CONFIG, quarantine=quarantine)
    assert found.read.tolist() == [True, False, True]
    assert found.num_frames.tolist() == [4, 0, 1]
    assert found.skipped_frames.tolist() == [2, 2, 0]
    assert found.features[:, 0].round().tolist() == [25, 0, 50]
    assert set(quarantine.bad) == {tracklets[1].path}
    sampled = encode(network, tracklets, CONFIG, test_frames=2, quarantine=quarantine)
    assert sampled.read.tolist() == [True, False, True]
    with pytest.raises(UserError, match=r"none/000.png: none of the 2 frames"):
        encode(network, tracklets, CONFIG)


def test_evaluation_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    tracklets = [grey(tmp_path / str(n), list(range(n, 3 * n + 5))) for n in range(5)]
    network: TrackletNet = Levels()  # type: ignore[assignment]
    alone = encode(network, tracklets, CONFIG).features
    config = ReidDataConfig(frames=4, height=8, width=4, num_workers=2)
    assert torch.equal(encode(network, tracklets, config).features, alone)


def test_a_video_is_a_tracklet_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.avi", frames=9)
    video = Tracklet((str(path),), -1, -1)
    assert len(PieceDataset([video], CONFIG).items) == 1
    sample = PieceDataset([video], CONFIG).sample((0, 0), 0)
    assert sample["video"].shape == (9, 8, 4, 3) and int(sample["frames"]) == 9
    assert SampledDataset([video], CONFIG, 3).sample((0, 0), 0)["video"].shape == (3, 8, 4, 3)


def test_another_tracklet_of_the_person_stands_for_an_unreadable_one(tmp_path: Path) -> None:
    tracklets = [
        grey(tmp_path / "bad", [None]),
        grey(tmp_path / "good", [10]),
        grey(tmp_path / "other", [20], person=2),
        grey(tmp_path / "more", [30], person=2),
    ]
    dataset = TrackletDataset(tracklets, {1: 0, 2: 1}, CONFIG, 0)
    quarantine = Quarantine(None, 1.0, "tracklets")
    sampler = IdentitySampler(tracklets, 0, identities=2, per_person=2)
    [batch] = make_loader(dataset, sampler, 4, quarantine=quarantine)
    assert sorted(batch["index"].tolist()) == [1, 1, 2, 3]
    assert sorted(batch["label"].tolist()) == [0, 0, 1, 1]
    quarantine.add(tracklets[1].path, "error", "bad", 0.1)
    with pytest.raises(UserError, match="none of the 2 training tracklets of person 1 can be read"):
        dataset.fallback_index((0, 0), quarantine)


def test_a_tracklet_that_hangs_is_given_up(tmp_path: Path) -> None:
    """Another of its person is shown, and the command goes on."""
    tracklets = [
        grey(tmp_path / "stuck", [10]),
        grey(tmp_path / "good", [20]),
        grey(tmp_path / "other", [30], person=2),
        grey(tmp_path / "more", [40], person=2),
    ]
    config = ReidDataConfig(frames=4, height=8, width=4, num_workers=1, pad=0, deadline=2)
    quarantine = Quarantine(None, 1.0, "tracklets")
    sampler = IdentitySampler(tracklets, 0, identities=2, per_person=2)
    loader = make_loader(
        Stuck(tracklets, {1: 0, 2: 1}, config, 0), sampler, 4, quarantine=quarantine
    )
    [batch] = loader
    loader.close()
    assert sorted(batch["index"].tolist()) == [1, 1, 2, 3]
    assert quarantine.bad[tracklets[0].path].kind == "timeout"


def test_too_many_unreadable_tracklets_stop(tmp_path: Path) -> None:
    tracklets = [grey(tmp_path / str(n), [None]) for n in range(5)]
    with pytest.raises(UserError, match="4 of 5 test tracklets cannot be read"):
        list(
            make_loader(
                SampledDataset(tracklets, CONFIG),
                in_order(5),
                1,
                quarantine=Quarantine(None, 0.1, "tracklets"),
            )
        )


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    dataset = SampledDataset([grey(tmp_path / "a", [1])], ReidDataConfig(deadline=0.0))
    with pytest.raises(OptionsError, match="data.deadline=0 above 0"):
        make_loader(dataset, in_order(1), 1)
