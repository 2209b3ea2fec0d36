"""Stands in for ``train`` and ``evaluate``: writes a run's folder, or its test, at once.

STAND_IN says what goes wrong: ``fail BLOCK`` ends trainings of that block with an error, ``wait``
lets every one wait for SIGTERM in the middle, leaving a half-done run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

ACCURACY = {"none": 0.5, "nl": 0.52, "snl": 0.55}


def experiment(words: list[str]) -> dict[str, Any]:
    """Return the record that ``video-snl train`` keeps of its words."""
    # Here, since they take a second, which tests and resumed trainings need not wait.
    from video_snl.cli.main import _COMMANDS, IMAGE_COMMANDS
    from video_snl.config.image import ImageExperiment
    from video_snl.config.parsing import sections_of
    from video_snl.config.video import Experiment

    of_videos = any("ucf" in word or "sample" in word for word in words)
    commands, kind = (_COMMANDS, Experiment) if of_videos else (IMAGE_COMMANDS, ImageExperiment)
    arguments = commands["train"].parser("video-snl train").parse_args(words)
    return kind.from_dict(sections_of(arguments)).to_dict()


def digest(weights: str | None) -> str | None:
    from video_snl.runs.run import weights_digest

    return weights_digest(weights)


def write(folder: Path, config: dict[str, Any], status: str) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    share = ACCURACY[config["model"]["block"]] + 0.01 * config["trainer"]["seed"]
    share += 0.1 * (config["data"].get("split") == 2)
    measure = "val/mIoU" if config["data"]["dataset"] == "cityscapes" else "val/top1"
    metrics = {measure: share, "loading/wait": 3.0}
    record = {
        "status": status,
        "started": "2026-01-02T03:04:05+00:00",
        "config": config,
        "weights_sha256": digest(config["model"].get("weights")),
        "metrics": {"last": metrics, "best": metrics | {measure: share + 0.02}},
        "precision": os.environ.get("STAND_IN_PRECISION", "32-true"),
        "versions": {name: os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES",)},
    }
    (folder / "run.json").write_text(json.dumps(record))


VIDEOS = [f"v_Bow_g{group:02}_c{clip:02}.avi" for group in range(1, 6) for clip in range(1, 5)]


def evaluate(words: list[str]) -> None:
    """Write the test of a run: of 20 videos the first are wrong, fewer of SNL."""
    options = dict(zip(words[::2], words[1::2], strict=False))
    run = Path(options["--checkpoint"]).parent.parent
    config = json.loads((run / "run.json").read_text())["config"]
    wrong = {"none": 6, "nl": 6, "snl": 3}[config["model"]["block"]] - config["trainer"]["seed"]
    rows = [
        f"split{config['data']['split']}/{name},Bow,Bow,{'Run' if place < wrong else 'Bow'}"
        for place, name in enumerate(VIDEOS)
    ]
    folder = Path(options["--output"])
    folder.mkdir()
    (folder / "predictions.csv").write_text(
        "\n".join(["video,true class,clip prediction,video prediction", *rows, ""])
    )
    crops = int(options["--crops"])
    metrics = {
        "checkpoint": options["--checkpoint"],
        "views": f"{options['--clips']} clips x {crops} crop{'s' * (crops > 1)}",
        "video_top1": 1 - wrong / len(VIDEOS),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


def main() -> int:
    words = sys.argv[2:]
    if sys.argv[1] == "evaluate":
        evaluate(words)
        return 0
    if words[0] == "--resume":
        folder = Path(words[1])
        config = json.loads((folder / "run.json").read_text())["config"]
    else:
        config = experiment(words)
        trainer = config["trainer"]
        folder = Path(trainer["output"]) / f"{trainer['name']}-20260102-030405"
    behaviour = os.environ.get("STAND_IN", "").split()
    if behaviour[:1] == ["fail"] and config["model"]["block"] in behaviour[1:]:
        print("loss is not a number", file=sys.stderr)
        return 1
    if behaviour == ["wait"]:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        write(folder, config, "running")
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            write(folder, config, "interrupted")
            return 143
    write(folder, config, "finished")
    return 0


if __name__ == "__main__":
    sys.exit(main())
