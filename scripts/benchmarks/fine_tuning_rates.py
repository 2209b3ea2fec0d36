"""Hold recordings of a training list out, and measure learning rates of fine-tuning on them.

    python scripts/benchmarks/fine_tuning_rates.py --root UCF5 --weights X3D_XS.pyth \
        --settings "frozen_batchnorm=true backbone_lr_factor=0.01" "backbone_lr_factor=0.1"

The test list is not looked at: the recordings (UCF's groups) of the training list are divided into
folds by their numbers, and each fold is the test part of a training on the others. Each setting is
options of the section optimizer. Frozen stages are computed once for each fold. Finished trainings
are kept, so that the command can be given again. Prints a Markdown table with the accuracy and the
loss (cross-entropy) of the last epoch, over all held-out clips.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import subprocess
import sys
from pathlib import Path

from benchmark_arguments import new_parser, positive

from video_snl.config.video import DataConfig
from video_snl.data.video.catalog import load_videos
from video_snl.data.video.division import group_of_name
from video_snl.utils.files import digest_of, write_json, write_text
from video_snl.utils.json_text import parse_json, to_json


def main() -> int:
    options = _options()
    folds = _folds(options)
    lines = ["| options of the optimizer | held-out accuracy (%) | loss |", "|---|---|---|"]
    for setting in options.settings:
        found = [_trained(options, setting, fold, number) for number, fold in enumerate(folds)]
        measured = [each for each in found if each is not None]
        if len(measured) < len(found):
            lines.append(f"| `{setting}` | the loss became NaN | - |")
            continue
        total = sum(count for _, _, count in measured)
        top1 = sum(top1 * count for top1, _, count in measured) / total
        loss = sum(loss * count for _, loss, count in measured) / total
        lines.append(f"| `{setting}` | {100 * top1:.1f} | {loss:.3f} |")
    text = "\n".join(lines)
    print(text)
    write_text(options.output / f"table-split{options.split}.md", text + "\n")
    return 0


def _folds(options: argparse.Namespace) -> list[tuple[Path, int]]:
    """Write a list of videos for each fold; return the files, with how many videos are held out."""
    videos = load_videos(DataConfig(dataset="ucf101", root=options.root, split=options.split))
    groups = [str(group_of_name(video.path)).rpartition("_")[2] for video in videos.train]
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    found = []
    for fold in range(options.folds):
        held = [numbers[group] % options.folds == fold for group in groups]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        for video, out in zip(videos.train, held, strict=True):
            name = videos.class_names[video.label]
            writer.writerow([Path(video.path).absolute(), name, "test" if out else "train"])
        path = options.output / f"split{options.split}-fold{fold}of{options.folds}.csv"
        write_text(path, text.getvalue())
        found.append((path, sum(held)))
    return found


def _trained(
    options: argparse.Namespace, setting: str, fold: tuple[Path, int], number: int
) -> tuple[float, float, int] | None:
    """Train on a fold, where that is not done; return accuracy, loss and held-out videos.

    None where the loss became NaN.
    """
    words = ["--config", options.config, "--data.dataset", "csv", "--data.root", str(fold[0])]
    words += ["--model.weights", options.weights]
    words += ["--optimizer.frozen_stages", "[stem, res2, res3, res4]"]
    words += ["--optimizer.cached_versions", "4", "--optimizer.epochs", str(options.epochs)]
    for option in setting.split():
        name, _, value = option.partition("=")
        words += [f"--optimizer.{name}", value]
    # What a result is of: the words, and what is in the files that they name.
    files = [Path(options.config), fold[0], Path(options.weights)]
    digests = [digest_of(file) for file in files if file.is_file()]
    key = hashlib.sha256(to_json([words, digests]).encode()).hexdigest()[:12]
    folder = options.output / f"{setting.replace(' ', ',')}-fold{number}-{key}"
    result = folder / "result.json"
    if not result.is_file():
        words += ["--trainer.output", str(folder)]
        command = [sys.executable, "-m", "video_snl", "train", *words]
        print(f"$ video-snl train {' '.join(words)}", file=sys.stderr, flush=True)
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        diverged = "the loss became" in done.stderr
        if done.returncode and not diverged:
            raise SystemExit(done.stderr)
        metrics = None
        if not diverged:
            record = sorted(folder.glob("*/run.json"))[-1]  # of the run that ended just now
            metrics = parse_json(record.read_text(encoding="utf-8"))["metrics"]["last"]
        write_json(result, metrics)
    last = parse_json(result.read_text(encoding="utf-8"))
    return None if last is None else (last["val/top1"], last["val/loss"], fold[1])


def _options() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--config", default="configs/finetune/x3d_xs_none.yaml")
    parser.add_argument("--root", required=True, help="folder in UCF-101's layout")
    parser.add_argument("--split", type=int, default=1, choices=[1, 2, 3])
    parser.add_argument("--weights", required=True, help="as --model.weights of train")
    parser.add_argument("--settings", nargs="+", required=True, metavar="KEY=VALUE ...")
    parser.add_argument("--epochs", type=positive, default=4)
    parser.add_argument("--folds", type=positive, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/fine-tuning-rates"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
