"""Small copies of networks of several libraries, each with a place for a block and an input.

The networks are those that users put blocks into; widths and depths are reduced where the library
lets them be, so that a step takes a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

__all__ = ["NETWORKS", "Network", "output_of"]


@dataclass(frozen=True)
class Network:
    """A network, an input of it, and where a block goes.

    Attributes:
        build: makes the network.
        example: makes its input, as ``example`` of ``insert_blocks``.
        position: place of the block.
        width, ndim: channels and axes of the feature map there.
        words: further arguments of ``insert_blocks``.
        slow: takes longer than a few seconds.
        exports: False where torch.export does not take the network itself.
    """

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    position: str
    width: int
    ndim: int
    words: dict[str, Any] = field(default_factory=dict)
    slow: bool = False
    exports: bool = True


def output_of(result: Any) -> Tensor:
    """Return the scores that a network of any library returns."""
    if isinstance(result, dict):
        return result["out"] if "out" in result else result["logits"]
    if isinstance(result, (tuple, list)):
        return result[0]
    assert isinstance(result, Tensor)
    return result


def noise(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ---- torchvision ---------------------------------------------------------------------------------


def _torchvision(name: str, **options: Any) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None, num_classes=5, **options)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 2)], num_classes=5)


def _vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    )


def _swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 16, [1, 2], [2, 2], [4, 4], num_classes=5)


def _swin3d() -> nn.Module:
    from torchvision.models.video import SwinTransformer3d

    return SwinTransformer3d([2, 4, 4], 16, [1, 2], [2, 2], [2, 4, 4], num_classes=5)


def _mvit() -> nn.Module:
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    setting = [
        MSBlockConfig(1, 16, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
        MSBlockConfig(2, 32, 32, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
    ]
    return MViT((32, 32), 4, setting, True, True, False, 0.0, 0.0, 0.0, num_classes=5)


# ---- other libraries -----------------------------------------------------------------------------


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=5, **options)


def _slowfast() -> nn.Module:
    from pytorchvideo.models import create_slowfast

    return create_slowfast(
        model_depth=50, model_num_class=5, head_pool_kernel_sizes=((2, 1, 1), (8, 1, 1))
    )


def _x3d() -> nn.Module:
    from pytorchvideo.models.x3d import create_x3d

    return create_x3d(input_clip_length=4, input_crop_size=32, model_num_class=5)


def _pytorchvideo_mvit() -> nn.Module:
    from pytorchvideo.models import create_multiscale_vision_transformers

    return create_multiscale_vision_transformers(
        spatial_size=32,
        temporal_size=4,
        depth=2,
        patch_embed_dim=16,
        num_heads=2,
        head_num_classes=5,
    )


def _needs_transformers() -> None:
    # Not in the lock: where it is installed, torchmetrics imports it, and every command is slower.
    pytest.importorskip("transformers", reason="pip install transformers to try its networks")


def _videomae() -> nn.Module:
    _needs_transformers()
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    sizes = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_frames": 4}
    return VideoMAEForVideoClassification(VideoMAEConfig(**sizes, **layers, num_labels=5))


def _timesformer() -> nn.Module:
    _needs_transformers()
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    sizes = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_frames": 2}
    return TimesformerForVideoClassification(TimesformerConfig(**sizes, **layers, num_labels=5))


def _osnet() -> nn.Module:
    from reid.models.torchreid_models import torchreid_network

    return torchreid_network("osnet_x0_25")


def _encoder(batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)


class UNet(nn.Module):
    """A plain U-Net of two levels, whose decoder joins maps of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder1, self.encoder2 = self._double(3, 8), self._double(8, 16)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.decoder, self.head = self._double(16, 8), nn.Conv2d(8, 5, 1)

    @staticmethod
    def _double(into: int, out: int) -> nn.Module:
        convolutions = (nn.Conv2d(into, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1))
        return nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder1(x)
        second = self.encoder2(self.pool(first))
        return self.head(self.decoder(torch.cat([first, self.up(second)], 1)))


def grid_of_mvit(_: Tensor, grid: Any) -> Any:
    """Return the sizes that a unit of MViT gets, and returns, beside its tokens."""
    return grid


IMAGE, CLIP = noise(2, 3, 32, 32), noise(2, 3, 4, 32, 32)

NETWORKS: dict[str, Network] = {
    "torchvision resnet18": Network(
        partial(_torchvision, "resnet18"), IMAGE, "after:layer2", 128, 2
    ),
    "torchvision densenet121": Network(
        partial(_torchvision, "densenet121"),
        IMAGE,
        "after:features.denseblock4",
        1024,
        2,
        slow=True,
    ),
    "torchvision convnext": Network(_convnext, IMAGE, "before:features.3.1", 32, 2),
    "torchvision vit": Network(
        _vit,
        IMAGE,
        "after:encoder.layers.encoder_layer_0",
        32,
        2,
        {"prefix_tokens": 1, "grid": (4, 4)},
    ),
    "torchvision swin": Network(_swin, IMAGE, "before:features.3.1", 32, 2),
    "torchvision r3d_18": Network(
        partial(_torchvision, "r3d_18"), CLIP, "before:layer4.0", 256, 3, slow=True
    ),
    "torchvision s3d": Network(
        partial(_torchvision, "s3d"),
        noise(1, 3, 14, 224, 224),
        "after:features.9",
        512,
        3,
        slow=True,
    ),
    "torchvision mvit": Network(
        _mvit,
        CLIP,
        "after:blocks.0",
        32,
        3,
        {"layout": "tokens", "prefix_tokens": 1, "grid": grid_of_mvit},
    ),
    "torchvision swin3d": Network(_swin3d, CLIP, "after:features.0.0", 16, 3),
    "torchvision fcn": Network(
        partial(_torchvision, "fcn_resnet50", weights_backbone=None),
        IMAGE,
        "before:backbone.layer3.5",
        1024,
        2,
        slow=True,
    ),
    "torchvision deeplab": Network(
        partial(_torchvision, "deeplabv3_mobilenet_v3_large", weights_backbone=None),
        noise(2, 3, 64, 64),
        "after:classifier.0",
        256,
        2,
        slow=True,
    ),
    "timm resnet": Network(partial(_timm, "resnet10t"), IMAGE, "before:layer4.0", 256, 2),
    "timm convnext": Network(
        partial(_timm, "convnext_atto"), IMAGE, "after:stages.2.blocks.1", 160, 2
    ),
    "timm vit": Network(
        partial(_timm, "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2),
        IMAGE,
        "before:blocks.1",
        192,
        2,
        {"prefix_tokens": 1, "grid": (4, 4)},
    ),
    "timm swin": Network(
        partial(
            _timm, "swin_tiny_patch4_window7_224", img_size=32, window_size=4, depths=(1, 2, 1, 1)
        ),
        IMAGE,
        "after:layers.1.blocks.1",
        192,
        2,
        slow=True,
    ),
    "timm efficientnet": Network(
        partial(_timm, "efficientnet_lite0"), noise(2, 3, 64, 64), "after:blocks.3.0", 80, 2
    ),
    "timm hybrid": Network(
        partial(_timm, "mobilevit_xxs"), noise(2, 3, 64, 64), "before:stages.3.1", 64, 2
    ),
    "pytorchvideo slowfast": Network(
        _slowfast,
        lambda: [noise(2, 3, 2, 32, 32)(), noise(2, 3, 8, 32, 32)()],
        "after:blocks.2",
        640,
        3,
        {"pathway": 0},
        slow=True,
    ),
    "pytorchvideo x3d": Network(_x3d, CLIP, "before:res4.-1", 96, 3, slow=True),
    "pytorchvideo mvit": Network(
        _pytorchvideo_mvit,
        CLIP,
        "before:blocks.1",
        16,
        3,
        {"layout": "tokens", "prefix_tokens": 1, "grid": grid_of_mvit},
        exports=False,
    ),
    "transformers videomae": Network(
        _videomae,
        lambda: {"pixel_values": noise(2, 4, 3, 32, 32)()},
        "after:videomae.encoder.layer.0",
        32,
        3,
        {"grid": (2, 4, 4)},
    ),
    "transformers timesformer": Network(
        _timesformer,
        lambda: {"pixel_values": noise(2, 2, 3, 32, 32)()},
        "before:timesformer.encoder.layer.1",
        32,
        3,
        {"prefix_tokens": 1, "grid": {"H": 4, "W": 4, "T": 2}},
    ),
    "torch encoder": Network(partial(_encoder, True), noise(3, 7, 16), "after:layers.0", 16, 1),
    "torch encoder, tokens first": Network(
        partial(_encoder, False), noise(7, 3, 16), "before:layers.0", 16, 1
    ),
    "plain U-Net": Network(UNet, IMAGE, "before:decoder", 16, 2),
    "torchreid osnet": Network(_osnet, noise(2, 3, 64, 32), "after:conv3", 96, 2),
}
"""Networks by library and name."""
