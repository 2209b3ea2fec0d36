"""``video_snl.load`` and ``train``: the numbers of the commands, in Python."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import video_snl
from tests.export.checkpoints import CLASSES, image_checkpoint, video_checkpoint
from tests.image_trees import noise_image
from tests.pages import REPOSITORY
from tests.tiny import environment, metrics, only_run, record, run_here, tiny_options
from tests.videos import frames_of, write_video
from video_snl.cli.python import _keywords, _source
from video_snl.config.backbones import PRETRAINED
from video_snl.config.files import Given, GivenValues
from video_snl.config.parsing import experiment_of, parse_command
from video_snl.config.video import DataConfig, ModelConfig
from video_snl.data.video.inference import array_views
from video_snl.data.video.map_dataset import VideoDataset
from video_snl.errors import UserError
from video_snl.models.video import build_model
from video_snl.runs.features import read_features
from video_snl.runs.pretrained import recipe_experiment

TRAINER = {"accelerator": "cpu", "loggers": ["csv"], "progress": False}
SMALL = {"short_side": 32, "crop": 32, "num_workers": 0}


@pytest.fixture(scope="module")
def command_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of the command ``train``."""
    output = tmp_path_factory.mktemp("command")
    done = run_here("train", *tiny_options(root, output, optimizer__epochs=2))
    assert done.returncode == 0, done.stderr
    return only_run(output)


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> video_snl.Run:
    """The same by ``video_snl.train``."""
    return video_snl.train(
        data={"dataset": "ucf101", "root": root, **SMALL},
        optimizer={"epochs": 2, "batch_size": 6, "learning_rate": 0.02},
        trainer={"output": tmp_path_factory.mktemp("python"), **TRAINER},
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> video_snl.Predictor:
    """A network of clips of 4 x 32 x 32 whose classes differ in their scores."""
    return video_snl.load(video_checkpoint(tmp_path_factory.mktemp("n") / "a.ckpt"), device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "a.avi", frames=24)


# ---- train ---------------------------------------------------------------------------------------


def test_train_is_the_command(run: video_snl.Run, command_run: Path) -> None:
    assert metrics(run.path) == metrics(command_run)
    ours, theirs = record(run.path), record(command_run)
    for each in (ours, theirs):
        each["config"]["trainer"].pop("output")
    assert ours["config"] == theirs["config"] and ours["lists"] == theirs["lists"]
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (run.path, command_run)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_has_its_metrics_and_its_best_checkpoint(run: video_snl.Run) -> None:
    rows = run.metrics
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(isinstance(value, int | float) for row in rows for value in row.values())
    assert all(math.isfinite(row["val/loss"]) for row in rows)
    assert run.best() == run.path / "checkpoints" / "best.ckpt" and run.status == "finished"
    assert run.config["optimizer"]["epochs"] == 2
    assert video_snl.Run(run.path).metrics == rows
    loaded = run.load("cpu")
    assert (loaded.classes, loaded.task) == (["Bow", "Clap", "Dive"], "video")
    with pytest.raises(UserError, match="is not the folder of a run"):
        video_snl.Run(run.path.parent)


def test_a_run_is_trained_on(run: video_snl.Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "copy"
    shutil.copytree(run.path, folder)
    again = video_snl.train(resume=folder, optimizer={"epochs": 3})
    assert again.path == folder and again.metrics[:2] == run.metrics and len(again.metrics) == 3
    changed = again.record["resumed"][0]["changed"]
    assert changed == {"optimizer.epochs": [2, 3]}
    with pytest.raises(UserError, match="another model or seed"):
        video_snl.train(resume=again, model={"block": "none"})
    newest = video_snl.train(
        resume="newest", optimizer={"epochs": 4}, trainer={"output": tmp_path / "runs"}
    )
    assert newest.path == folder and len(newest.metrics) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 3}, r"unknown keyword epochs; the nearest option is optimizer.epochs"),
        ({"data__root": "x"}, r"the nearest option is data.root: data=\{'root': ...\}"),
        ({"xyzzy": 3}, r"unknown keyword xyzzy; there are config, data, model"),
        ({"data": {"rot": "x"}}, r"there is no option data\.rot, the nearest is data\.root"),
        ({"optimizer": {"epochs": "x"}}, r"optimizer\.epochs: expected a whole number; found x"),
        ({"model": {"block": "nll"}}, r"model\.block: expected one of none, nl, .*found nll"),
        ({"data": {"root": object()}}, r"data\.root: expected a plain value"),
        ({"data": "my_videos"}, r"data must be options, such as .* found 'my_videos'"),
        ({"config": 3}, r"config must be a file or options, found 3"),
        ({"config": "no.yaml"}, r"config no\.yaml: there is no such file"),
        ({"config": "finetune/x3d_xs_slm"}, r"the nearest is finetune/x3d_xs_snl"),
        ({"dat": {"root": "x"}}, r"unknown keyword dat; the nearest is data$"),
        ({"data": {"root": "my_vids"}}, r"data.root=my_vids does not exist: .*dataset sample"),
        ({"config": {"optimiser": {"epochs": 1}}}, r"no option optimiser.*nearest is optimizer"),
        ({"task": "videos"}, r"task: expected one of video, image, segmentation; found 'videos'"),
        ({"task": "reid"}, r"task: reid is a task of reid: use reid train"),
        ({"trainer": {"devices": 2}}, r"devices=2 .* use video-snl train"),
        ({"optimizer": {"epochs": 0}}, r"optimizer\.epochs"),
        ({"resume": "nowhere"}, r"nowhere/run\.json"),
    ],
)
def test_what_train_refuses(
    options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as refused:
        video_snl.train(**options)
    assert "\n" not in str(refused.value).strip()
    assert not list(tmp_path.iterdir())


def test_configurations_of_the_package_are_found_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class folders"):
        video_snl.train("finetune/x3d_xs_snl", data={"root": tmp_path})


@pytest.mark.parametrize(("code", "raised"), [(130, KeyboardInterrupt), (143, SystemExit)])
def test_interruptions_reach_the_caller(
    code: int, raised: type[BaseException], run: video_snl.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SimpleNamespace(folder=run.path), code
    monkeypatch.setattr("video_snl.cli.python.run_training", lambda *_: ended)
    with pytest.raises(raised):
        video_snl.train()


def _parsed(given: Given) -> tuple[Any, Any]:
    cli = importlib.import_module("video_snl.cli.main")
    command, arguments = parse_command(
        "video-snl", "train", given, cli._COMMANDS, cli._prepare, cli._choose, raises=True
    )
    return command.experiment, experiment_of(command.experiment, arguments)


@pytest.mark.parametrize(
    "name",
    ["ucf101/sample", "finetune/x3d_xs_snl", "digits/preresnet20_snl", "ucf101/i3d_r50_snl"],
)
def test_configurations_mean_what_they_mean_to_the_command(name: str) -> None:
    path = REPOSITORY / "configs" / f"{name}.yaml"
    words = [f"--config={path}", "--optimizer.epochs=7", "--data.root=/somewhere"]
    sections = {"optimizer": {"epochs": 7}, "data": {"root": Path("/somewhere")}}
    values = GivenValues([_source(path), _keywords(sections, None)])
    assert _parsed(values) == _parsed(Given(words))
    # The sections of the file as values, and the experiment itself.
    _, experiment = _parsed(Given([f"--config={path}"]))
    assert _parsed(GivenValues([_source(experiment)])) == _parsed(Given([f"--config={path}"]))


def test_own_videos_are_divided_as_by_the_command(tmp_path: Path) -> None:
    """By recording, except for files of before there was a choice."""
    sections = {"data": {"root": str(tmp_path)}}
    plain = _parsed(GivenValues([_keywords(sections, None)]))[1]
    assert plain == _parsed(Given([f"--data.root={tmp_path}"]))[1]
    assert plain.data.split_by == "group"
    old = {"data": {"clip_frames": 8}}
    assert _parsed(GivenValues([_source(old), _keywords(sections, None)]))[1].data.split_by == (
        "fifth"
    )


# ---- load: what is loaded ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x3d_sx", "'x3d_sx' is no file or folder.*did you mean x3d_s or x3d_xs"),
        ("runs/none", "^runs/none: no such file or folder"),
        ("model.pt2", "^model.pt2: no such file or folder"),
    ],
)
def test_networks_that_are_not_there(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        video_snl.load(source)


def test_options_of_load_are_checked(run: video_snl.Run) -> None:
    with pytest.raises(UserError, match="weights='w.pth' goes with the name of a published"):
        video_snl.load(run.path, weights="w.pth")
    with pytest.raises(UserError, match="device tpu: choose auto, cpu or gpu"):
        video_snl.load(run.path, device="tpu")
    with pytest.raises(UserError, match=r"device cuda:97 cannot be used .*; use cpu"):
        video_snl.load(run.path, device="cuda:97")
    with pytest.raises(UserError, match="short_videos='loop': choose error, repeat_last or wrap"):
        video_snl.load(run.path, short_videos="loop")  # type: ignore[arg-type]
    assert video_snl.load(run.path, device=torch.device("cpu")).device.type == "cpu"


def test_folder_checkpoint_and_best_are_one_network(run: video_snl.Run, video: Path) -> None:
    found = [
        video_snl.load(source, device="cpu").predict(video)
        for source in (run.path, str(run.path), run.best())
    ]
    assert found[0] == found[1] == found[2]


def test_clips_as_a_network_takes_them(run: video_snl.Run, root: Path) -> None:
    clip = run.load("cpu").clip
    assert (clip.crop, clip.clip_frames) == (32, 4) and clip.statistics == "kinetics"
    dataset = VideoDataset.from_folder(root, clip=clip)
    logits = run.load("cpu").network(torch.stack([dataset[0]["video"], dataset[1]["video"]]))
    assert logits.shape == (2, 3)


# ---- predict -------------------------------------------------------------------------------------


def test_predict_is_the_command(run: video_snl.Run, video: Path) -> None:
    other = write_video(video.parent / "many" / "b.avi", frames=9)
    words = ["--checkpoint", str(run.path), "--accelerator", "cpu", "--clips", "3", "--json"]
    done = run_here("predict", *words, "--top", "2", str(video), str(other.parent))
    assert done.returncode == 0, done.stderr
    found = run.load("cpu").predict([video, other.parent], clips=3, top=2)
    assert [
        {
            "video": each.source,
            "predictions": [
                {"class": name, "score": round(score, 6)}
                for name, score in zip(each.classes, each.scores, strict=True)
            ],
        }
        for each in found
    ] == json.loads(done.stdout)


def test_arrays_are_what_their_files_are(network: video_snl.Predictor, video: Path) -> None:
    frames = frames_of(video)
    [of_file] = network.predict(video)
    for array in (frames, frames[::1], torch.from_numpy(frames)):
        [of_array] = network.predict(array)
        assert of_array.classes == of_file.classes and of_array.scores == of_file.scores
        assert of_array.source == "array 0"
    mixed = network.predict([frames, video, video, frames])
    assert [each.scores for each in mixed] == [of_file.scores] * 4
    assert [each.source for each in mixed] == ["array 0", str(video), str(video), "array 3"]
    assert set(of_file.classes) == set(CLASSES) and sum(of_file.scores) == pytest.approx(1)
    assert list(of_file.scores) == sorted(of_file.scores, reverse=True)
    assert network.predict([]) == []


def test_arrays_of_a_generator_are_in_memory_one_at_a_time(
    network: video_snl.Predictor, video: Path
) -> None:
    made = list[weakref.ref[np.ndarray]]()

    def arrays() -> Iterator[np.ndarray]:
        for _ in range(4):
            array = frames_of(video)
            made.append(weakref.ref(array))
            assert sum(ref() is not None for ref in made) <= 2  # the one before may be in use
            yield array
            del array

    assert len(network.predict(arrays())) == 4


@settings(max_examples=25)
@given(
    length=st.integers(4, 40),
    seconds=st.none() | st.floats(0.02, 0.4),
    fps=st.sampled_from([5.0, 12.5, 30.0, 59.94]),
    clips=st.integers(1, 4),
)
def test_frames_of_an_array(length: int, seconds: float | None, fps: float, clips: int) -> None:
    """Clip k starts at k (n - span) / (K - 1), with a frame every ``seconds`` or every second."""
    data = DataConfig(
        clip_frames=3, frame_stride=2, stride_seconds=seconds, short_side=8, short_videos="wrap",
        crop=8,
    )  # fmt: skip
    frames = (
        np.zeros((length, 8, 9, 3), np.uint8)
        + np.arange(length, dtype=np.uint8)[:, None, None, None]
    )
    stride = 2 if seconds is None else max(1, round(seconds * fps))
    room = length - (2 * stride + 1)
    views = array_views(frames, data, clips, rate=fps, name="array 0")
    assert views.shape == (clips, 3, 8, 9, 3)
    for k in range(clips):
        start = 0 if room < 0 else room // 2 if clips == 1 else math.floor(
            k * room / (clips - 1) + 0.5 + 1e-9
        )  # fmt: skip
        expected = [(start + i * stride) % length for i in range(3)]
        assert views[k, :, 0, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((8, 32, 32, 3), np.float32), r"uint8 of shape \(T, H, W, 3\), found float32"),
        (np.zeros((8, 3, 32, 32), np.uint8), r"found uint8 of shape \(8, 3, 32, 32\)"),
        (np.zeros((32, 32, 3), np.uint8), r"found uint8 of shape \(32, 32, 3\)"),
        (np.zeros((0, 32, 32, 3), np.uint8), r"array 0 holds no pixel"),
        (np.zeros((3, 40, 40, 3), np.uint8), r'3 frames, a clip spans 4: load .*short_videos="rep'),
    ],
)
def test_arrays_that_are_no_videos(
    network: video_snl.Predictor, array: np.ndarray, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        network.predict(array)
    with pytest.raises(UserError, match=said):
        network.features([array])


def test_options_of_predict_are_checked(network: video_snl.Predictor, video: Path) -> None:
    for options in ({"clips": 0}, {"crops": 2}, {"top": 0}):
        with pytest.raises(UserError, match=f"{next(iter(options))}="):
            network.predict(video, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="per='frame': choose clip or video"):
        network.features(video, per="frame")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing to compute features of"):
        network.features([])
    with pytest.raises(UserError, match="nowhere.mp4"):
        network.predict("nowhere.mp4")
    for empty in "", [""]:
        with pytest.raises(UserError, match="a path is empty: name a file or a folder"):
            network.predict(empty)


def test_short_videos_are_repeated_where_that_is_asked_for(run: video_snl.Run) -> None:
    short = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    patient = video_snl.load(run.path, device="cpu", short_videos="wrap")
    assert patient.predict(short) == patient.predict(np.tile(short, (2, 1, 1, 1)))


def test_a_network_left_in_training_mode_predicts_the_same(
    network: video_snl.Predictor, video: Path
) -> None:
    before = network.predict(video)
    network.network.train()
    assert network.predict(video) == before and not network.network.training


# ---- features, explain ---------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["clip", "video"])
def test_features_are_the_command(
    run: video_snl.Run, video: Path, tmp_path: Path, per: Any
) -> None:
    target = tmp_path / "f.npz"
    words = ["--checkpoint", str(run.path), "--accelerator", "cpu", "--clips", "3", "--per", per]
    done = run_here("features", *words, "--num_workers", "1", "-o", str(target), str(video))
    assert done.returncode == 0, done.stderr
    expected = read_features(target).features
    loaded = run.load("cpu")
    found = loaded.features([video, frames_of(video)], clips=3, per=per)
    assert found.dtype == np.float32
    if per == "clip":
        assert found.shape == (2, *expected.shape)
        np.testing.assert_array_equal(found[0], expected)
    else:
        np.testing.assert_array_equal(found[:1], expected)
    np.testing.assert_array_equal(found[0], found[1])


def test_features_are_in_the_order_of_the_inputs(
    network: video_snl.Predictor, tmp_path: Path
) -> None:
    paths = [write_video(tmp_path / f"{n}.avi", frames=n) for n in (40, 6, 23)]
    together = network.features(paths, num_workers=2)
    np.testing.assert_array_equal(
        together, np.concatenate([network.features(path) for path in paths])
    )
    (tmp_path / "bad.avi").write_bytes(b"none")
    with pytest.raises(UserError, match="bad.avi"):
        network.features([*paths, tmp_path / "bad.avi"], num_workers=2)


def test_explain_is_the_command(run: video_snl.Run, video: Path, tmp_path: Path) -> None:
    page = run.load("cpu").explain(video, output=tmp_path / "python")
    assert page == tmp_path / "python" / "index.html"
    words = ["--checkpoint", str(run.path), "--accelerator", "cpu", "-o", str(tmp_path / "command")]
    assert run_here("explain", *words, str(video)).returncode == 0
    with (
        np.load(tmp_path / "python" / "maps.npz") as ours,
        np.load(tmp_path / "command" / "maps.npz") as theirs,
    ):
        assert sorted(ours) == sorted(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    with pytest.raises(UserError, match="9,9,9"):
        run.load("cpu").explain(video, output=tmp_path / "python", at="9,9,9")


# ---- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["preresnet20", "fcn_r50_d8"])
def test_images(backbone: str, tmp_path: Path) -> None:
    file = image_checkpoint(tmp_path / "a.ckpt", backbone)
    path = tmp_path / "a.png"
    noise_image(1, 32, 32).save(path)
    loaded = video_snl.load(file, device="cpu")
    words = ["--checkpoint", str(file), "--accelerator", "cpu", "--json", "--top", "3"]
    done = run_here("predict", *words, str(path))
    assert done.returncode == 0, done.stderr
    [of_file], [of_array] = loaded.predict(path), loaded.predict(np.asarray(Image.open(path)))
    assert of_file.scores == of_array.scores and of_file.classes == of_array.classes
    [expected] = json.loads(done.stdout)
    assert [round(score, 6) for score in of_file.scores] == [
        each["score"] for each in expected["predictions"]
    ]
    if backbone == "fcn_r50_d8":
        assert loaded.task == "segmentation" and of_file.labels is not None
        shares = np.bincount(of_file.labels.ravel(), minlength=3) / of_file.labels.size
        assert [loaded.classes.index(name) for name in of_file.classes][0] == shares.argmax()
        np.testing.assert_allclose(sorted(of_file.scores), sorted(shares), atol=1e-7)
        with pytest.raises(UserError, match="this one labels pixels"):
            loaded.features(path)
    else:
        assert loaded.task == "image" and of_file.labels is None
        vectors = loaded.features([path, path])
        layer = [m for m in loaded.network.modules() if isinstance(m, torch.nn.Linear)][-1]
        logits = torch.from_numpy(vectors[0]) @ layer.weight.T + layer.bias
        scores = logits.softmax(0)[[loaded.classes.index(name) for name in of_file.classes]]
        torch.testing.assert_close(scores.detach(), torch.tensor(of_file.scores))
    with pytest.raises(UserError, match="clips and crops are of videos"):
        loaded.predict(path, clips=3)
    with pytest.raises(UserError, match="takes no clips"):
        _ = loaded.clip
    with pytest.raises(UserError, match=r"expected an image as uint8 of shape \(H, W, 3\)"):
        loaded.predict(np.zeros((32, 32), np.uint8))


# ---- published and exported networks -------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of X3D-XS with weights of its own."""
    experiment = recipe_experiment("x3d_xs")
    model, _ = build_model(ModelConfig(backbone="x3d_xs", block="none"), 400, seed=3)
    assert experiment.model.block == "none"
    path = tmp_path_factory.mktemp("weights") / "x3d_xs.pth"
    torch.save({"model_state": model.state_dict()}, path)
    return path


def test_a_published_network(weights: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=40, size=(48, 60))
    loaded = video_snl.load("x3d_xs", weights, "cpu")
    names = PRETRAINED["x3d_xs"].published
    assert names is not None and loaded.classes == names.class_names()
    words = ["predict", "--pretrained", "x3d_xs", "--weights", str(weights), "--json", str(path)]
    done = run_here(*words, "--accelerator", "cpu")
    assert done.returncode == 0, done.stderr
    [expected] = json.loads(done.stdout)
    [found] = loaded.predict(path, top=5)
    assert [round(score, 6) for score in found.scores] == [
        each["score"] for each in expected["predictions"]
    ]
    # A frame every 0.4 s: the rate of an array must be said.
    with pytest.raises(UserError, match=r"a frame every 0\.4 s: give the .* fps=25"):
        loaded.predict(frames_of(path))
    assert loaded.predict(frames_of(path), fps=25, top=5)[0].scores == found.scores
    assert (loaded.clip.stride_seconds, loaded.clip.statistics) == (0.4, "kinetics")
    assert loaded.features(path).shape == (1, 2048)


def test_an_exported_network(tmp_path: Path, video: Path) -> None:
    checkpoint = video_checkpoint(tmp_path / "a.ckpt")
    target = tmp_path / "model.pt2"
    words = ["--runs", "1", "--compiled", "false", "--dynamic", "none"]
    done = run_here("export", "--checkpoint", str(checkpoint), "-o", str(target), *words)
    assert done.returncode == 0, done.stderr
    exported, original = (video_snl.load(path, device="cpu") for path in (target, checkpoint))
    assert exported.classes == original.classes and exported.task == "video"
    np.testing.assert_allclose(
        exported.predict(video)[0].scores, original.predict(video)[0].scores, atol=1e-5
    )
    for refused in (exported.features, exported.explain):
        with pytest.raises(UserError, match="is an exported graph.* load the run"):
            refused(video)


@pytest.mark.slow
def test_a_script_without_a_main_guard(run: video_snl.Run, video: Path, tmp_path: Path) -> None:
    """Files are read in processes of their own, which run no module of the user's."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport video_snl\nprint('once')\n"
        "network = video_snl.load(sys.argv[1], device='cpu')\n"
        "print(network.predict(sys.argv[2], top=1)[0].classes[0])\n"
        "print(network.features(sys.argv[2]).shape[0])\n"
    )
    words = [sys.executable, str(script), str(run.path), str(video)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    best = run.load("cpu").predict(video, top=1)[0].classes[0]
    assert done.stdout.split() == ["once", best, "1"]
