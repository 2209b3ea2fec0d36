"""Networks with published weights: each is its publisher's, takes a block, and learns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from pytorchvideo.models import hub
from pytorchvideo.models.hub import resnet, slowfast, vision_transformers, x3d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import InterpolationMode

from video_snl.blocks.insertion import block_places, inserted_blocks
from video_snl.config.backbones import PRETRAINED, VIDEO_BACKBONES
from video_snl.config.statistics import STATISTICS
from video_snl.config.video import DataConfig, Experiment, ModelConfig
from video_snl.errors import UserError
from video_snl.models.torchvision_video import kinetics400_classes
from video_snl.models.video import (
    build_model,
    check_clips,
    head_parameters,
    recompute_units,
    stage_modules,
)
from video_snl.models.weights.loading import classifier, load_backbone_weights

TORCHVISION = ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s"]
TORCHVISION += ["swin3d_t", "swin3d_s", "swin3d_b"]
ADDRESSES = {
    **resnet.checkpoint_paths,
    "pytorchvideo_i3d_r50": resnet.checkpoint_paths["i3d_r50"],
    **slowfast.checkpoint_paths,
    **x3d.checkpoint_paths,
    **vision_transformers.checkpoint_paths,
}
OURS = {"pytorchvideo_i3d_r50": "i3d_r50"}  # names that differ from pytorchvideo's
_LIGHT = {"x3d_xs", "r3d_18"}
# A short clip of each kind: what is big in all of them is slow.
CLIPS = {"s3d": (14, 224, 224), "r3d_18": (4, 32, 32)}


def light(names: list[str]) -> list[object]:
    """Mark all but two networks as slow: they are large."""
    return [
        name if name in _LIGHT else pytest.param(name, marks=pytest.mark.slow) for name in names
    ]


def published(name: str, classes: int = 400) -> nn.Module:
    """The network as its publisher builds it."""
    if name in TORCHVISION:
        return get_model(name, num_classes=classes)
    build = getattr(hub, OURS.get(name, name))
    key = "head_num_classes" if name.startswith("mvit") else "model_num_class"
    network: nn.Module = build(**{key: classes})
    return network


def clip_of(name: str) -> Tensor:
    entry = PRETRAINED[name]
    size = entry.smallest_clip if entry.exact else CLIPS.get(name, (8, 64, 64))
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", TORCHVISION)
def test_recipes_are_torchvisions(name: str) -> None:
    entry, weights = PRETRAINED[name], get_model_weights(name).KINETICS400_V1
    transforms, recipe = weights.transforms(), entry.recipe
    assert recipe is not None and entry.published is not None
    assert entry.weights == {"kinetics": weights.url}
    resize = transforms.resize_size
    assert recipe.resize == (resize[0] if len(resize) == 1 else tuple(resize))
    assert transforms.crop_size == [recipe.crop, recipe.crop]
    assert transforms.interpolation == InterpolationMode.BILINEAR
    assert STATISTICS[entry.statistics] == (tuple(transforms.mean), tuple(transforms.std))
    documented = f"{weights.meta['recipe']} {weights.meta['_docs']}"
    rate = f"{round(1 / recipe.seconds, 1):g}"
    for each in (f"frame_rate={rate}", f"clips_per_video={recipe.clips}"):
        assert f"`{each}`" in documented
    assert f"`clip_len={recipe.frames}`" in documented
    metrics = weights.meta["_metrics"]["Kinetics-400"]
    assert entry.published.accuracy == (metrics["acc@1"], metrics["acc@5"])
    assert entry.published.class_names() == weights.meta["categories"]


@pytest.mark.parametrize("name", [name for name in PRETRAINED if name not in TORCHVISION])
def test_addresses_are_pytorchvideos(name: str) -> None:
    entry = PRETRAINED[name]
    assert entry.weights["kinetics"] == ADDRESSES[name]
    said = re.search(r"accuracy\s+of\s+([\d.]+\d)", getattr(hub, OURS.get(name, name)).__doc__)
    # One or two places; of SlowFast the function says 76.4, and the model zoo 76.94.
    if said and name != "slowfast_r50":
        assert entry.published is not None and entry.published.accuracy is not None
        assert entry.published.accuracy[0] == pytest.approx(float(said[1]), abs=0.06)


def test_class_names_are_those_of_the_publisher(real_data: Path) -> None:
    names = json.loads((real_data / "weights" / "kinetics400_class_names.json").read_text())
    names = names if isinstance(names, list) else [names[key] for key in sorted(names, key=int)]
    assert names == kinetics400_classes()


@pytest.mark.parametrize("name", PRETRAINED)
def test_recipes_fit_their_networks(name: str) -> None:
    entry = PRETRAINED[name]
    assert entry.recipe is not None
    data = DataConfig(**entry.recipe.data_options())
    check_clips(Experiment(data=data, model=ModelConfig(backbone=name)))
    assert data.stride_seconds == entry.recipe.seconds and data.short_videos == "repeat_last"
    assert callable(resolve_name(entry.builder))


@pytest.mark.parametrize("name", light(list(PRETRAINED)))
def test_a_file_of_the_publisher_gives_the_same_scores(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    theirs = published(name, 11)
    with torch.no_grad():  # statistics of the norms as a trained network has them
        for buffer in theirs.buffers():
            if buffer.is_floating_point() and buffer.ndim == 1:
                buffer.uniform_(0.5, 1.5)
    state = theirs.state_dict()
    torch.save({"model_state": state} if name not in TORCHVISION else state, tmp_path / "net.pth")
    ours, report = build_model(
        ModelConfig(backbone=name, block="none", weights=str(tmp_path / "net.pth")), 11
    )
    assert report is not None
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert report.head == "taken over, 11 classes" and report.new == report.dropped == ()
    assert report.statistics == PRETRAINED[name].statistics
    # Every tensor is where it was; the outputs follow where the publisher's takes this clip.
    own = ours.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key], state[key]) for key in state)
    recipe = PRETRAINED[name].recipe
    assert recipe is not None
    if name in _LIGHT or name in TORCHVISION:
        # pytorchvideo's own X3D takes clips of its recipe's size alone.
        x3d = torch.rand(1, 3, recipe.frames, recipe.crop, recipe.crop)
        clip = x3d if name == "x3d_xs" else clip_of(name)
        with torch.inference_mode():
            expected = theirs.eval()(clip)
            got = ours.eval()(clip)
        if name not in TORCHVISION:
            got = got.softmax(-1)  # pytorchvideo's activation in evaluation mode
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", light([*PRETRAINED]))
def test_a_step_with_a_block(name: str) -> None:
    entry = PRETRAINED[name]
    bare, _ = build_model(ModelConfig(backbone=name, block="none"), 3, seed=1)
    model, _ = build_model(ModelConfig(backbone=name, block="snl"), 3, seed=1)
    clip = clip_of(name)
    with torch.inference_mode():
        assert torch.equal(
            bare.eval()(clip), model.eval()(clip)
        )  # the block starts as the identity
    del bare
    [(position, block)] = inserted_blocks(model).items()
    places = block_places(model)
    assert position.partition(":")[2] in places
    assert head_parameters(model) == set(model.get_submodule(classifier(model)).parameters())
    stages = {place.rpartition(".")[0] for place in places}
    assert all(stage_modules(model, stage) for stage in stages)
    recompute_units(model)
    model.train()
    if clip.shape[2] <= 4 or clip.shape[3] < 64:  # norms of one value each cannot be trained
        clip = torch.cat([clip, clip.flip(2)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # the block's first gradient is that of its last, zero, layer
        optimizer.zero_grad()
        F.cross_entropy(model(clip), torch.zeros(len(clip), dtype=torch.long)).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    assert any(p.grad.abs().sum() > 0 for p in block.parameters())
    assert entry.layout == "channels_first" or name.startswith(("mvit", "swin"))


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("swin3d_t", ["after:features.0.0", "before:features.6.-1"]),
        pytest.param("mvit_v2_s", ["after:blocks.0", "before:blocks.3"], marks=pytest.mark.slow),
        pytest.param("s3d", ["after:features.12"], marks=pytest.mark.slow),
        pytest.param(
            "slowfast_r50", ["before:fast.res3.-1", "after:slow.res5.0"], marks=pytest.mark.slow
        ),
    ],
)
def test_other_places(name: str, positions: list[str]) -> None:
    model, _ = build_model(ModelConfig(backbone=name, positions=positions), 3)
    with torch.inference_mode():
        assert model.eval()(clip_of(name)).isfinite().all()
    found = list(inserted_blocks(model))
    assert [each.partition(":")[0] for each in found] == [p.partition(":")[0] for p in positions]


class Plain(nn.Module):
    """The unit of a transformer, as far as a block looks at it: width, attention, a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.linear = nn.LayerNorm(6), nn.Identity(), nn.Linear(6, 6)


def applied(layout: str, x: Tensor, where: str, *grid: object) -> tuple[nn.Module, Tensor]:
    """Insert a block at a unit that changes nothing, and return it with the output."""
    from video_snl.blocks.insertion import insert_blocks

    class Unit(Plain):
        def forward(self, x: Tensor, *grid: object) -> object:
            return (x, *grid) if grid else x

    model = nn.Sequential()
    model.add_module("conv", nn.Conv3d(1, 1, 1))
    model.add_module("blocks", nn.ModuleList([Unit()]))
    [block] = insert_blocks(
        model,
        "snl",
        [f"{where}:blocks.0"],
        layout=layout,  # type: ignore[arg-type]
        zero_init=False,
        prefix_tokens=1 if layout == "tokens" else 0,
        grid=(lambda _, sizes: sizes) if layout == "tokens" else None,
    )
    out = model.eval().blocks[0](x, *grid)
    return block.eval(), out[0] if grid else out


@pytest.mark.parametrize("where", ["before", "after"])
def test_layouts_apply_the_block_to_the_same_feature_map(where: str) -> None:
    maps = torch.randn(2, 6, 2, 3, 4, generator=torch.Generator().manual_seed(1))
    block, last = applied("channels_last", maps.permute(0, 2, 3, 4, 1), where)
    torch.testing.assert_close(last.permute(0, 4, 1, 2, 3), block(maps))
    tokens = torch.cat([torch.full((2, 1, 6), 7.0), maps.flatten(2).transpose(1, 2)], 1)
    block, out = applied("tokens", tokens, where, (2, 3, 4))
    torch.testing.assert_close(out[:, 1:].transpose(1, 2).reshape(maps.shape), block(maps))
    assert torch.equal(out[:, 0], tokens[:, 0])  # the class token passes by


def test_clips_of_the_wrong_size_are_refused() -> None:
    def check(name: str, **data: object) -> None:
        check_clips(
            Experiment(data=DataConfig(**data), model=ModelConfig(backbone=name))  # type: ignore[arg-type]
        )

    with pytest.raises(UserError, match="mvit_v2_s takes clips of just 16 frames and 224 pixels"):
        check("mvit_v2_s", clip_frames=8, crop=224, short_side=256)
    with pytest.raises(UserError, match="multiple of 4 frames; data.clip_frames=6"):
        check("slowfast_r50", clip_frames=6)
    with pytest.raises(UserError, match="s3d needs clips of at least 14 frames"):
        check("s3d", clip_frames=8)
    check("slowfast_r50", clip_frames=8)


def test_stages_of_two_pathways_freeze_together() -> None:
    with torch.device("meta"):
        model = VIDEO_BACKBONES["slowfast_r50"].build(3)
    both = stage_modules(model, "res4")
    for pathway in ("slow", "fast"):
        assert set(stage_modules(model, f"{pathway}.res4")) < set(both)
    assert len(both) > sum(len(stage_modules(model, f"{p}.res4")) for p in ("slow", "fast"))
    assert stage_modules(model, "stem")


def test_a_file_of_another_network(tmp_path: Path) -> None:
    file = tmp_path / "r3d.pth"
    with torch.device("meta"):
        names = VIDEO_BACKBONES["r3d_18"].build(400).state_dict()
    torch.save({name: torch.zeros(t.shape) for name, t in names.items()}, file)
    with pytest.raises(UserError, match=r"do not fit backbone mc3_18.*layer2\.0\.conv1"):
        load_backbone_weights(VIDEO_BACKBONES["mc3_18"].build(5), str(file), backbone="mc3_18")


def test_the_page_lists_every_network() -> None:
    """docs/pretrained.md, whose table is that of the entries."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "pretrained.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines()]
    table = {row[0].strip("`"): row[1:] for row in rows if row and row[0].strip("`") in PRETRAINED}
    assert list(table) == list(PRETRAINED)
    for name, (clip, frame, views, accuracy, block, licence) in table.items():
        entry = PRETRAINED[name]
        recipe, facts = entry.recipe, entry.published
        assert recipe is not None and facts is not None and facts.accuracy is not None
        resize = recipe.resize
        size = " x ".join(map(str, resize)) if isinstance(resize, tuple) else str(resize)
        assert clip == f"{recipe.frames} x {recipe.seconds:.3g} s"
        assert frame == f"{size}, {recipe.crop}" and views == f"{recipe.clips} x {recipe.crops}"
        top1, top5 = facts.accuracy
        assert accuracy == f"{top1:.2f} / {top5:.2f} ({facts.views})"
        assert block == f"`{entry.positions[0]}`" and licence == facts.licence
