"""``publish``: a checkpoint as a folder for a model hub, or for anybody else.

Nothing is uploaded.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from video_snl.commands.model_card import card, recorded_version
from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import UserError
from video_snl.export.checking import finite_logits, random_inputs
from video_snl.runs.published import (
    CONFIG,
    DIGEST,
    WEIGHTS,
    WEIGHTS_DIGEST,
    config_text,
    digest_of,
    facts_of,
)
from video_snl.runs.trained import TrainedNetwork
from video_snl.utils.files import check_folder, fresh_folder, writing

__all__ = ["publish"]


def publish(
    trained: TrainedNetwork[AnyExperiment], *, output: str, licence: str, name: str | None
) -> int:
    """Write the folder ``output``: whole, or not at all.

    Args:
        trained: The network of a checkpoint, of any kind of task.
        output: The folder.
        licence: Licence as hubs name it, such as ``apache-2.0``.
        name: Name of the model; default that of the folder.

    Raises:
        UserError: The folder is there and not empty, or cannot be made, or what the network
            computes is not finite.
    """
    spec, path, content = trained.spec, trained.path, trained.stored
    operations = spec.make()
    shape = 1, *operations.input_shape(trained.experiment)
    folder = Path(output)
    _check_free(folder)
    check_folder("-o", output)
    for what, x in random_inputs([shape]):
        finite_logits(operations.output(trained.model), what, x)
    facts = facts_of(content, spec) | {DIGEST: content.get(DIGEST) or digest_of(path)}
    if "trained_with" not in facts:  # of checkpoints that do not say, the run knows
        facts["trained_with"] = recorded_version(path)
    name = name or folder.absolute().name
    text = card(path, facts, trained.model, spec, name=name, licence=licence)
    with writing("-o", output):
        _write(folder, trained.model.state_dict(), facts, text)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {WEIGHTS}, {CONFIG} and README.md, {size / 1e6:.1f} MB in all")
    print(f"use it: {spec.command} {spec.card.use} --checkpoint {folder}")
    return 0


def _check_free(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"-o {folder} is there already: name a new folder.")


def _write(
    folder: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any], text: str
) -> None:
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = fresh_folder(folder.parent, folder.name[:40])
    try:
        # Each of its own memory: tied weights would be refused.
        whole = {name: value.detach().clone().contiguous() for name, value in weights.items()}
        save_file(whole, made / WEIGHTS, metadata={"format": "pt"})
        facts = {**facts, WEIGHTS_DIGEST: digest_of(made / WEIGHTS)}
        (made / CONFIG).write_text(config_text(facts), encoding="utf-8")
        # safetensors gives nobody else a permission, whatever the umask.
        (made / WEIGHTS).chmod(stat.S_IMODE((made / CONFIG).stat().st_mode))
        (made / "README.md").write_text(text, encoding="utf-8")
        made.replace(folder)  # takes the place of an empty one, too
    finally:
        shutil.rmtree(made, ignore_errors=True)
