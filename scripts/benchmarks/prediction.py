"""Time of prediction and extraction on the CPU: the network in several forms, and the commands.

python scripts/benchmarks/prediction.py network --data DATA
python scripts/benchmarks/prediction.py accuracy --data DATA
python scripts/benchmarks/prediction.py commands ../old . --data DATA --images MARKET

``DATA`` holds ``ucf5`` and ``weights``. ``network`` times X3D-XS, each form in a process of its
own, the forms in turn: clips of noise in batches, memory given back to the system after every layer
or kept, norms folded into the convolutions, onnxruntime in float and int8. ``accuracy`` compares
what onnxruntime says of the test videos of UCF-5, in float and int8; its int8 network is calibrated
on training videos alone. ``commands`` runs ``predict`` and ``extract`` of several versions of the
code in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from benchmark_arguments import checkouts, new_parser, positive
from torch import Tensor, nn

_WEIGHTS = "weights/x3d_xs_kinetics400_dequantised.pyth"
_OSNET = "weights/osnet_x0_25_msmt17.pth"
_CLIP = (3, 4, 160, 160)
_CALIBRATION = 60  # training videos, a clip of each

Call = Callable[[Tensor], Any]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("what", choices=("network", "accuracy", "commands"))
    parser.add_argument("trees", nargs="*", type=Path, help="Folders of versions of the code.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="Images for extract, named as Market-1501's.")
    parser.add_argument("--videos", type=positive, default=60)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--threads", type=positive, nargs="+", default=[1])
    parser.add_argument("--batches", type=positive, nargs="+", default=[3, 30])
    parser.add_argument("--forms", nargs="+", default=list(_FORMS), choices=list(_FORMS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # form, batch, threads
    asked = parser.parse_args()
    if asked.one is not None:
        form, batch, threads = asked.one
        from video_snl.utils.json_text import to_json

        print(to_json(time_form(asked.data, form, int(batch), int(threads))))
    elif asked.what == "network":
        compare_forms(asked)
    elif asked.what == "accuracy":
        compare_accuracy(asked.data)
    else:
        compare_commands(asked)


def network(data: Path) -> nn.Module:
    from video_snl.runs.pretrained import load_pretrained

    return load_pretrained("x3d_xs", str(data / _WEIGHTS)).model.eval()


def eager(data: Path) -> Call:
    return network(data)


def kept(data: Path) -> Call:
    from video_snl.utils.memory import keep_freed_memory

    keep_freed_memory()
    return network(data)


def folded(data: Path) -> Call:
    from torch.fx.experimental.optimization import fuse

    return fuse(kept(data))  # type: ignore[arg-type]


def float_onnx(data: Path) -> Call:
    with tempfile.TemporaryDirectory() as folder:
        return session(write_onnx(network(data), Path(folder) / "x3d.onnx"))


def int8_onnx(data: Path) -> Call:
    with tempfile.TemporaryDirectory() as folder:
        return session(write_int8(data, Path(folder)))


_FORMS: dict[str, Callable[[Path], Call]] = {
    "eager": eager,
    "memory kept": kept,
    "memory kept, norms folded": folded,
    "onnxruntime": float_onnx,
    "onnxruntime, int8": int8_onnx,
}


def write_onnx(model: nn.Module, path: Path) -> Path:
    example = torch.randn(2, *_CLIP)
    axes = ({0: torch.export.Dim("batch", min=1, max=512)},)
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=True,
        dynamic_shapes=axes,
        external_data=False,
        verbose=False,
    )
    return path


def write_int8(data: Path, folder: Path) -> Path:
    """Quantise to int8: weights by channel, activations by their range over training clips."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exact, prepared, target = (folder / f"{name}.onnx" for name in ("exact", "prepared", "int8"))
    write_onnx(network(data), exact)
    quant_pre_process(exact, prepared, skip_symbolic_shape=True)

    class Clips(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            listed = (data / "ucf5/ucfTrainTestlist/trainlist01.txt").read_text().split("\n")
            names = [line.split()[0] for line in listed if line.strip()]
            chosen = names[:: max(1, len(names) // _CALIBRATION)]
            self.clips = (clip[None, 1].numpy() for _, clip in clips_of(data, chosen))

        def get_next(self) -> dict[str, np.ndarray] | None:
            clip = next(self.clips, None)
            return None if clip is None else {"x": clip}

    quantization.quantize_static(
        prepared,
        target,
        Clips(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    return target


def session(path: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda x: torch.from_numpy(made.run(None, {name: x.contiguous().numpy()})[0])


def clips_of(data: Path, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the paths of videos, and three centre crops (3, 3, 4, 160, 160) of each, normalised."""
    from video_snl.data.transforms.geometry import crop_clips, normalise
    from video_snl.data.video.inference import read_many_views, value_of
    from video_snl.runs.pretrained import recipe_experiment

    config = recipe_experiment("x3d_xs").data
    paths = [str(data / "ucf5/UCF-101" / name) for name in names]
    for result in read_many_views(paths, config, 3):
        views = torch.from_numpy(value_of(result, result.item, config.deadline))
        size = torch.tensor(views.shape[2:4]).expand(3, 2)
        middle, upright = torch.full((3, 2), 0.5), torch.zeros(3, dtype=torch.bool)
        cropped = crop_clips(views, size, middle, upright, config.crop)
        yield result.item, normalise(cropped, (0.45,) * 3, (0.225,) * 3)


def time_form(data: Path, form: str, batch: int, threads: int) -> dict[str, float]:
    """Time a form; returns process CPU and wall ms of a clip, the least, and MiB at most."""
    torch.set_num_threads(threads)
    call = _FORMS[form](data)
    clips = torch.randn(batch, *_CLIP).contiguous(memory_format=torch.channels_last_3d)
    times = []
    with torch.inference_mode():
        call(clips)
        for _ in range(max(3, 60 // batch)):
            cpu, wall = time.process_time(), time.perf_counter()
            call(clips)
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = (1e3 * min(each) / batch for each in zip(*times, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": cpu, "wall": wall, "peak": peak}


def compare_forms(asked: argparse.Namespace) -> None:
    found: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    for _ in range(asked.rounds):
        for threads in asked.threads:
            for batch in asked.batches:
                for form in asked.forms:
                    words = ["network", "--data", str(asked.data)]
                    words += ["--one", form, str(batch), str(threads)]
                    done = subprocess.run(
                        [sys.executable, __file__, *words],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                        check=True,
                    )
                    row = json.loads(done.stdout.splitlines()[-1])
                    found.setdefault((form, batch, threads), []).append(row)
    print("| form | clips at once | threads | CPU ms a clip | wall ms a clip | peak, MiB |")
    print("|---|---|---|---|---|---|")
    for (form, batch, threads), rows in found.items():
        cells = [spread([row[name] for row in rows]) for name in ("cpu", "wall")]
        peak = max(row["peak"] for row in rows)
        print(f"| {form} | {batch} | {threads} | {cells[0]} | {cells[1]} | {peak:.0f} |")


def compare_accuracy(data: Path) -> None:
    """Print how often each form names a test video's class among the five, and they agree."""
    numbered = json.loads((data / "weights/kinetics400_class_names.json").read_text())
    numbers = {name: int(number) for number, name in numbered.items()}
    listed = (data / "ucf5/ucfTrainTestlist/testlist01.txt").read_text().split()
    twins = json.loads((data / "weights/ucf101_kinetics400_twins.json").read_text())
    labels = sorted({name.split("/")[0] for name in listed})
    known = [label for label in labels if label in twins]
    columns = [numbers[twins[label][0]] for label in known]
    with tempfile.TemporaryDirectory() as folder:
        forms: dict[str, Call] = {
            "torch": network(data),
            "onnxruntime": session(write_onnx(network(data), Path(folder) / "x3d.onnx")),
            "onnxruntime, int8": session(write_int8(data, Path(folder))),
        }
        scores: dict[str, list[Tensor]] = {form: [] for form in forms}
        truth = []
        with torch.inference_mode():
            for path, clips in clips_of(data, listed):
                truth.append(Path(path).parent.name)
                for form, call in forms.items():
                    scores[form].append(call(clips).softmax(1).mean(0))
    exact = torch.stack(scores["torch"])
    asked = [row for row, label in enumerate(truth) if label in known]
    print(f"{len(truth)} test videos; {len(asked)} of {', '.join(known)}")
    print("| form | right among these classes | same first of 400 classes | largest difference |")
    print("|---|---|---|---|")
    for form, rows in scores.items():
        found = torch.stack(rows)
        best = found[:, columns].argmax(1)
        right = sum(known[int(best[row])] == truth[row] for row in asked) / len(asked)
        same = (found.argmax(1) == exact.argmax(1)).float().mean()
        print(f"| {form} | {right:.1%} | {same:.1%} | {(found - exact).abs().max():.2g} |")


def compare_commands(asked: argparse.Namespace) -> None:
    """Run the commands of several trees in turn, on few and on many files."""
    folders = checkouts(asked.trees)
    paths = sorted(map(str, (asked.data / "ucf5").rglob("*.avi")))[:: 600 // asked.videos]
    options = ["--accelerator", "cpu", "--weights"]
    predict = ["predict", "--pretrained", "x3d_xs", *options, str(asked.data / _WEIGHTS), "--json"]
    commands = {f"predict, {len(paths)} videos": ["video_snl", *predict, *paths]}
    if asked.images is not None:
        extract = ["extract", str(asked.images), "--layout", "market", "-o", "{out}/f.parquet"]
        extract += ["--pretrained", "osnet_x0_25_msmt17", *options, str(asked.data / _OSNET)]
        commands["extract"] = ["reid", *extract]
    one = {"predict, 1 video": ["video_snl", *predict, paths[0]]}
    print("| command | threads | version | wall s, each round | median |")
    print("|---|---|---|---|---|")
    for name, words in (one | commands).items():
        for threads in asked.threads:
            seconds: dict[Path, list[float]] = {tree: [] for tree in asked.trees}
            for _ in range(asked.rounds):
                for tree, folder in zip(asked.trees, folders, strict=True):
                    seconds[tree].append(run(folder, words, threads))
            for tree, each in seconds.items():
                shown = ", ".join(f"{value:.1f}" for value in each)
                print(f"| {name} | {threads} | {tree} | {shown} | {median(each):.1f} |", flush=True)


def run(tree: Path, words: list[str], threads: int) -> float:
    """Return the seconds that a command takes."""
    environment = dict(os.environ, PYTHONPATH=str(tree), OMP_NUM_THREADS=str(threads))
    with tempfile.TemporaryDirectory() as folder:
        named = [word.format(out=folder) for word in words]
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", *named],
            env=environment,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - began


def spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} - {max(values):.1f})"


if __name__ == "__main__":
    main()
