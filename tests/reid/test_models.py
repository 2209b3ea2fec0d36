"""Networks of tracklets: what they compute, what trains, and what is refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reid.config import HeadName, ReidModelConfig, ReidOptimizerConfig
from reid.models.backbones import BACKBONES
from reid.models.network import build_network, head_parameters, stage_layers
from reid.models.torchreid_models import MODELS
from reid.pretrained import PRETRAINED
from tests.reid.networks import IDENTITIES, OSNET_PLACES, SIZE, clips, network
from video_snl.blocks.insertion import inserted_blocks
from video_snl.errors import UserError
from video_snl.tasks.optimization import freeze, keep_frozen_layers_in_eval, parameter_groups

NVAN_PLACES = ["layer2.2", "layer2.3", "layer3.3", "layer3.4", "layer3.5"]


def on_meta(identities: int = 625, **options: Any) -> nn.Module:
    config = ReidModelConfig(**options)
    with torch.device("meta"):
        return build_network(config, identities, size=(256, 128))[0]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---- backbones and places ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "block", "parameters"),
    [
        # torchvision's 25,557,032 less its classifier, then neck and classifier: 2048 (2 + 625).
        ("resnet50", "none", 23_508_032 + 2048 * 627),
        # C^2 + 2 (C / 2) C weights and 2 C of the norm at C = 512 (twice) and 1024 (three times).
        ("resnet50", "nl", 23_508_032 + 2048 * 627 + 2 * 525_312 + 3 * 2_099_200),
        ("resnet50", "snl", 23_508_032 + 2048 * 627 + 2 * 656_384 + 3 * 2_623_488),
        # The paper's I3D with 101 classes less its classifier, and its one block.
        ("i3d_r50", "snl", 46_405_925 - 2049 * 101 + 2048 * 627 + 2_623_488),
        # Of the 2D network, the stem has 3 and the 16 convolutions of 3 x 3 have 2 more planes.
        ("resnet50_3d", "none", 23_508_032 + 2 * (9_408 + 11_317_248) + 2048 * 627),
    ],
)
def test_sizes_of_the_large_networks(backbone: str, block: str, parameters: int) -> None:
    assert count(on_meta(backbone=backbone, block=block)) == parameters


def test_the_number_of_identities_keeps_its_public_name() -> None:
    """The argument and the attribute of what ``reid.models`` exports are those of version 0.1."""
    from reid import models

    built, _ = models.build_network(
        ReidModelConfig(block="none"), num_people=5, frames=2, size=(64, 32)
    )
    assert isinstance(built, models.TrackletNet) and built.num_people == 5


def test_the_small_network_is_torchreids_up_to_its_feature_map() -> None:
    from torchreid.reid.models import build_model

    theirs = build_model("osnet_x0_25", 7, pretrained=False, use_gpu=False)
    after = count(theirs.fc) + count(theirs.classifier)
    net = network(backbone="osnet_x0_25")
    assert count(net.trunk) == count(theirs) - after == 134_792
    net.trunk.load_state_dict(theirs.state_dict(), strict=False)
    theirs.eval()
    frames = clips()[:, :, 0]
    with torch.no_grad():
        maps = net.feature_maps(frames.unsqueeze(2)).squeeze(2)
        assert torch.equal(maps, theirs.featuremaps(frames))


def test_resnet50_has_stride_1_in_its_last_stage() -> None:
    net = network(backbone="resnet50")
    with torch.no_grad():
        assert net.feature_maps(clips(1, 2)).shape == (1, 2048, 2, 4, 2)


@pytest.mark.parametrize(
    ("backbone", "places"),
    [
        ("resnet50", [f"after:{place}" for place in NVAN_PLACES]),
        ("se_resnet50", [f"after:{place}" for place in NVAN_PLACES]),
        ("resnet50_3d", ["after:res3.2", "after:res3.3", *(f"after:res4.{n}" for n in (3, 4, 5))]),
        ("i3d_r50", ["before:res4.5"]),
        ("osnet_x0_5", OSNET_PLACES),
        ("osnet_ain_x0_25", ["after:pool2", "after:pool3"]),
    ],
)
def test_default_places(backbone: str, places: list[str]) -> None:
    net = on_meta(backbone=backbone, block="snl")
    assert sorted(inserted_blocks(net.trunk)) == sorted(places)


@pytest.mark.parametrize("backbone", ["resnet18", "shufflenet_v2_x0_5"])
def test_other_backbones_need_places(backbone: str) -> None:
    with pytest.raises(UserError, match=f"positions: there is no default.*{backbone}.*conv1"):
        on_meta(backbone=backbone, block="snl")
    place = "after:layer2.0" if backbone == "resnet18" else "after:stage3"
    net = on_meta(backbone=backbone, block="snl", positions=[place])
    assert list(inserted_blocks(net.trunk)) == [place]


@pytest.mark.slow
def test_the_models_of_torchreid_are_those_with_feature_maps() -> None:
    from torchreid.reid import models

    found = []
    with torch.device("meta"):
        for name in vars(models)["__model_factory"]:
            net = models.build_model(name, 7, pretrained=False, use_gpu=False).eval()
            maps = getattr(net, "featuremaps", lambda _: None)(torch.zeros(1, 3, 256, 128))
            found += [name] if isinstance(maps, Tensor) and maps.ndim == 4 else []
    assert sorted(found) == sorted([*MODELS, "resnet50"])


# ---- the whole network ---------------------------------------------------------------------------


@pytest.mark.parametrize("head", get_args(HeadName))
@pytest.mark.parametrize("backbone", ["osnet_x0_25", "i3d_small"])
def test_a_gradient_reaches_everything(head: str, backbone: str) -> None:
    net = network(backbone=backbone, head=head, block="snl", zero_init=False).train()
    output = net(clips(4))
    (output.logits.logsumexp(1).sum() + output.raw.square().sum()).backward()
    missing = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_the_neck_has_no_shift_and_what_is_compared_lies_behind_it() -> None:
    net = network().train()
    raw, features, logits = net(clips(4))
    normalised = (raw - raw.mean(0)) / (raw.var(0, correction=0) + net.neck.eps).sqrt()
    torch.testing.assert_close(features, normalised)
    torch.testing.assert_close(logits, features @ net.classifier.weight.mT)
    assert not net.neck.bias.requires_grad and net.classifier.bias is None
    assert logits.shape == (4, IDENTITIES) and net.feature_dim == 128


def test_without_the_neck_the_raw_vector_is_compared() -> None:
    net = network(neck=False)
    output = net(clips())
    assert output.features is output.raw
    weight, bias = net.classifier.weight, net.classifier.bias
    torch.testing.assert_close(output.logits, output.raw @ weight.mT + bias)


def test_the_trunk_of_clips_is_pooled_over_what_time_remains() -> None:
    net = network(backbone="i3d_small", head="attention")
    with torch.no_grad():
        assert net.feature_maps(clips(2, 8)).shape == (2, 512, 2, 2, 1)
        assert net(clips(2, 8)).raw.shape == (2, 512)


def test_weights_are_a_function_of_the_seed_and_not_of_the_blocks() -> None:
    state = torch.get_rng_state()
    bare, with_blocks = network(head="rnn"), network(head="rnn", block="nl")
    assert torch.equal(torch.get_rng_state(), state)
    theirs = {n.replace(".module.", "."): t for n, t in with_blocks.state_dict().items()}
    for name, tensor in bare.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    other = network(head="rnn", seed=1)
    for name in ("trunk.conv1.conv.weight", "head.gru.weight_hh_l0", "classifier.weight"):
        assert not torch.equal(bare.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize("backbone", ["osnet_x0_25", "resnet50", "i3d_small"])
def test_parts_with_learning_rates_of_their_own(backbone: str) -> None:
    net = network(backbone=backbone, head="attention", block="snl")
    groups = parameter_groups(net, ReidOptimizerConfig(head_lr_factor=3.0), head_parameters)
    sizes = {group["name"]: sum(p.numel() for p in group["params"]) for group in groups}
    blocks = sum(count(block) for block in inserted_blocks(net.trunk).values())
    assert sizes == {
        "backbone": count(net.trunk) - blocks,
        "blocks": blocks,
        "head": count(net.head) + net.feature_dim * (1 + IDENTITIES),  # without the neck's bias
    }


@pytest.mark.parametrize("backbone", ["resnet50", "resnet50_3d", "se_resnet50", "i3d_small"])
def test_every_residual_network_has_a_stem(backbone: str) -> None:
    net = on_meta(backbone=backbone, block="none")
    layers = stage_layers(net.trunk, "stem")
    assert any(isinstance(layer, nn.Conv2d | nn.Conv3d) for layer in layers)
    assert len(layers) < 10


def test_frozen_batchnorms_are_the_trunks_own() -> None:
    net = network(head="nonlocal3d", block="snl").train()
    config = ReidOptimizerConfig(frozen_batchnorm=True, frozen_stages=["conv1"])
    freeze(net.trunk, config, stage_layers)
    keep_frozen_layers_in_eval(net.trunk, config, stage_layers)
    frozen = {n for n, m in net.named_modules() if isinstance(m, _BatchNorm) and not m.training}
    assert not any(".block." in name or not name.startswith("trunk.") for name in frozen)
    assert {"trunk.conv1.bn", "trunk.conv3.module.0.conv1.bn", "trunk.conv5.bn"} <= frozen
    still = {n for n, p in net.named_parameters() if not p.requires_grad} - {"neck.bias"}
    assert "trunk.conv1.conv.weight" in still
    assert all(n.startswith("trunk.conv1.") or n.rpartition(".")[0] in frozen for n in still)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet51"}, "'resnet51' is unknown.*resnet50, resnet50_3d.*osnet_x0_25"),
        ({"backbone": "resnet50mid"}, "'resnet50mid' is unknown, or has no feature maps"),
        ({"backbone": "hacnn"}, "'hacnn' is unknown, or has no feature maps"),
        ({"backbone": "inceptionresnetv2"}, "cannot take frames of 64 x 32.*data.height"),
        ({"block": "snl", "positions": ["after:conv9"]}, "conv9.*names no module"),
        ({"block": "snl", "activation": "relu"}, "zero_init"),
        ({"head": "nonlocal3d", "block_options": {"order": 2}}, "order"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    config = ReidModelConfig(**{"block": "none", **options})
    with pytest.raises(UserError, match=message), torch.device("meta"):
        build_network(config, IDENTITIES, size=SIZE)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 3, 64, 32), r"\(3, 64, 32\) are too small.*\(4, 32, 32\)"),
        ((2, 3, 4, 64, 16), r"\(4, 64, 16\) are too small"),
        ((2, 4, 4, 64, 32), r"\(B, 3, T, H, W\) was expected, found \(2, 4, 4, 64, 32\)"),
        ((3, 4, 64, 32), "was expected, found"),
    ],
)
def test_refuses_clips(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        network(backbone="i3d_small")(torch.zeros(shape))


def test_known_backbones_are_named_once() -> None:
    assert not {"resnet50", "resnet50mid", "hacnn", "densenet121"} & set(MODELS)
    assert len(BACKBONES) == len(MODELS) + len(PRETRAINED) + 4
