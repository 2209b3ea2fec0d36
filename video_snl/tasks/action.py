"""Action recognition: what is trained and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from video_snl.config.task_spec import VIDEO
from video_snl.config.video import Experiment
from video_snl.data.loading.prefetch import to_device
from video_snl.data.transforms.augment import augmented_crops
from video_snl.data.transforms.geometry import crop_clips, normalise, three_crops
from video_snl.data.transforms.mixup import Mix, draw_mix, mix_clips, mix_labels
from video_snl.models.split import split_frozen
from video_snl.models.video import head_parameters, stage_modules
from video_snl.tasks.activations import Activations
from video_snl.tasks.base import Parts, Task
from video_snl.tasks.datamodule import ClipDataModule
from video_snl.tasks.metrics import TestMetrics
from video_snl.tasks.optimization import learning_rate_factor
from video_snl.utils.finite import class_scores
from video_snl.utils.timing import stage

__all__ = ["ActionRecognition"]

# Views of a video that go through the network together.
_VIEWS_AT_ONCE = 32


class ActionRecognition(Task):
    """Classify clips; score videos by the mean over their views.

    Args:
        experiment: the configuration.
        model: (B, 3, T, H, W) -> (B, classes) logits.
        class_names: names of the classes in the order of the labels.
        mean, std: statistics of the input, per colour channel, for values in [0, 1].
        files: paths of the training videos, to name those of a batch that went wrong.
    """

    def __init__(
        self,
        experiment: Experiment,
        model: nn.Module,
        class_names: list[str],
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        files: Sequence[str] = (),
    ) -> None:
        super().__init__(
            experiment,
            model,
            spec=VIDEO,
            parts=Parts(head_parameters, stage_modules),
            files=files,
        )
        self.experiment = experiment
        self.class_names, self.mean, self.std = class_names, mean, std
        # MeanMetric, since self.log weighs unequal shares of several processes wrongly.
        self.train_loss = MeanMetric()
        self.train_top1 = MulticlassAccuracy(len(class_names), average="micro")
        self.listed = TestMetrics(len(class_names))
        # The part that trains, where activations of the rest are kept; not as a module, since its
        # modules are those of the network.
        self._rest: list[nn.Sequential] = []

    def clips(self, video: Tensor, size: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
        """Crop, flip and normalise clips, on the device of the frames.

        Shapes: video uint8 (B, T, H, W, 3), size and offset (B, 2), flip (B,) -> (B, 3, T, h, w).
        """
        return self._normalised(crop_clips(video, size, offset, flip, self.experiment.data.crop))

    def training_clips(self, batch: dict[str, Tensor]) -> Tensor:
        """Return :meth:`clips` with the augmentations that the samples of a batch carry."""
        return self._normalised(augmented_crops(batch, self.experiment.data))

    def configure_optimizers(self) -> Any:
        # The activations come first: the schedule asks for the number of steps, for which Lightning
        # makes the loaders.
        if self.experiment.optimizer.cached_versions:
            self._keep_activations(self.experiment.optimizer.cached_versions)
        return super().configure_optimizers()

    def _keep_activations(self, versions: int) -> None:
        """Compute the activations of the frozen part, or find those of an earlier run."""
        first, rest = split_frozen(self.model)
        self._rest.append(rest)
        data: ClipDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        kept = Activations(first, (self.mean, self.std), data.experiment.data, data.videos)

        @torch.no_grad()
        def apply(batch: dict[str, Tensor]) -> Tensor:
            batch = to_device(batch, self.device)
            clips = self.training_clips(batch) if "video" in batch else self._centre(batch)
            return first(clips)

        data.keep(kept, apply, versions)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        label, mix = batch["label"], self._mix(batch_idx)
        target = label
        if "activation" in batch:
            logits = self.of_activations(batch["activation"], *self._rest)
        else:
            with stage("transform"):
                clips = self.training_clips(batch)
            if mix is not None:
                clips, target = mix_clips(clips, mix), mix_labels(label, len(self.class_names), mix)
                label = target.argmax(1)  # of the larger share: what the training accuracy is of
            logits = self.model(clips)
        smoothing = self.experiment.optimizer.label_smoothing
        loss = F.cross_entropy(logits.float(), target, label_smoothing=smoothing)
        self.checked(loss, batch["index"])
        self.train_loss(loss.detach(), len(label))
        self.train_top1(logits, label)
        self.log_epoch({"train/loss": self.train_loss, "train/top1": self.train_top1}, len(label))
        return self.weighted(loss)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss of the videos that can be read, and accuracies with the others as wrong."""
        label = batch["label"]
        if len(label):
            self.listed.update(self._centre_logits(batch), label)
        self.listed.update_missed(batch.get("unreadable"))
        self.log_epoch(self.listed.named(), len(label))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Compute the scores of the videos of a batch, at both levels.

        ``clip_scores`` (B, classes): softmax of the centre crop of the centre clip;
        ``video_scores`` (B, classes): mean softmax over all clips and crops. They are NaN where the
        logits are not finite. B may be 0, where no video of a batch can be read.
        """
        label = batch["label"].cpu()
        if len(label) == 0:
            none = torch.empty(0, len(self.class_names))
            return {"index": label, "label": label, "clip_scores": none, "video_scores": none}
        clip = class_scores(self._centre_logits(batch))
        return {
            "index": batch["index"].cpu(),
            "label": label,
            "clip_scores": clip.cpu(),
            "video_scores": self.view_scores(batch).cpu(),
        }

    def view_scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean softmax over all clips and crops of every video; NaN where a logit is not finite.

        Shapes: ``views`` uint8 (B, clips, T, H, W, 3), ``size`` (B, 2) -> (B, classes).
        """
        return self.over_crops(batch, lambda clips: class_scores(self.model(clips))).mean(1)

    def over_crops(self, batch: dict[str, Tensor], compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Mean over the crops of what is computed of normalised clips, (N, 3, T, h, w) -> (N, D).

        Shapes: ``views`` uint8 (B, clips, T, H, W, 3), ``size`` (B, 2) -> (B, clips, D).
        """
        videos, clips = batch["views"].shape[:2]
        views = batch["views"].flatten(0, 1)
        size = batch["size"].repeat_interleave(clips, 0)
        crop = self.experiment.data.crop
        # Where the crop is the whole frame, three crops are three times the same.
        three = self.crops == 3 and bool((size > crop).any())
        middle = torch.full_like(size, 0.5, dtype=torch.float32)
        offsets = three_crops(size, crop) if three else [middle]
        found = [self._over_views(views, size, offset, compute) for offset in offsets]
        return torch.stack(found).mean(0).view(videos, clips, -1)

    def over_centres(self, batch: dict[str, Tensor], compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute something of the centre crops of the centre clip and of all other clips.

        Shapes: ``centre`` uint8 (B, T, H, W, 3), ``views`` uint8 (B, clips, T, H, W, 3), ``size``
        (B, 2) -> (B, 1 + clips, ...), where ``compute`` takes (N, 3, T, h, w) to (N, ...).
        """
        views = torch.cat([batch["centre"][:, None], batch["views"]], dim=1)
        size = batch["size"].repeat_interleave(views.shape[1], 0)
        middle = torch.full_like(size, 0.5, dtype=torch.float32)
        found = self._over_views(views.flatten(0, 1), size, middle, compute)
        return found.unflatten(0, views.shape[:2])

    def of_activations(self, activations: Tensor, rest: nn.Module) -> Tensor:
        """Return the logits (N, classes) that the rest of the network makes of (N, C, T, H, W)."""
        if self.experiment.trainer.channels_last:
            activations = activations.contiguous(memory_format=torch.channels_last_3d)
        return rest(activations)

    def rate_factor(self, epoch: float) -> float:
        return learning_rate_factor(self.experiment.optimizer, epoch)

    def about(self) -> dict[str, Any]:
        return {
            "class_names": self.class_names,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def _normalised(self, video: Tensor) -> Tensor:
        clips = normalise(video, self.mean, self.std)
        return clips if self.experiment.trainer.channels_last else clips.contiguous()

    def _mix(self, step: int) -> Mix | None:
        return draw_mix(
            self.experiment.optimizer,
            self.experiment.data.crop,
            seed=self.experiment.trainer.seed,
            epoch=self.current_epoch,
            step=step,
            rank=self.global_rank,
        )

    def _centre_logits(self, batch: dict[str, Tensor]) -> Tensor:
        if "activation" in batch:
            return self.of_activations(batch["activation"], *self._rest)
        return self.model(self._centre(batch))

    def _centre(self, batch: dict[str, Tensor]) -> Tensor:
        video, size = batch["centre"], batch["size"]
        middle = torch.full_like(size, 0.5, dtype=torch.float32)
        upright = torch.zeros(len(video), dtype=torch.bool, device=video.device)
        return self.clips(video, size, middle, upright)

    def _over_views(
        self, views: Tensor, size: Tensor, offset: Tensor, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        upright = torch.zeros(len(views), dtype=torch.bool, device=views.device)
        parts = zip(*(x.split(_VIEWS_AT_ONCE) for x in (views, size, offset, upright)), strict=True)
        return torch.cat([compute(self.clips(*part)) for part in parts])

    # Crops per clip of the test protocol: 1 (centre) or 3.
    crops: int = 3
