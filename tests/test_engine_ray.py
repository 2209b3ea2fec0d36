"""``--engine ray``: the answers of the local engine, whatever happens to processes and machines."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reid.retrieval.extract as extracting
from reid.cli.main import main as reid_main
from tests.misbehaving import misbehave
from tests.processes import descendants, gone
from tests.reid.little import options as reid_options
from tests.reid.little import run as run_reid
from tests.reid.little import write_folder, write_tracklet
from tests.tiny import command, environment, only_run, run_command, tiny_options
from tests.videos import write_ucf101, write_video
from video_snl.cli.main import main
from video_snl.config.video import ModelConfig
from video_snl.data.workers.cluster import Cluster, LostError, in_order, map_on_cluster
from video_snl.data.workers.pool import DecodeResult, map_with_timeout
from video_snl.errors import UserError
from video_snl.models.video import build_model
from video_snl.utils import extras


class _Fake:
    """Tasks that end in the order of their age, the newest first, and the first item last."""

    def __init__(self, room: int, lost: dict[int, list[LostError]]) -> None:
        self._room, self._lost = room, {item: list(errors) for item, errors in lost.items()}
        self.started: list[int] = []
        self.most = 0

    def room(self) -> int:
        return self._room

    def start(self, item: int) -> Any:
        self.started.append(item)
        return len(self.started), item

    def wait(self, names: list[Any]) -> list[Any]:
        self.most = max(self.most, len(names))
        later = [name for name in names if name[1] != 0]
        return [max(later or names)]

    def result(self, name: Any, item: int) -> DecodeResult[int, int]:
        if self._lost.get(item):
            raise self._lost[item].pop(0)
        return DecodeResult(item, item**2, None, "ok", 0.0)


def test_results_come_in_order_through_a_window() -> None:
    machine = LostError("the machine of its task was lost", 3)
    process = LostError("the process of its task ended", 2)
    tasks = _Fake(6, lost={5: [machine], 7: [process] * 2, 9: [machine, process, machine]})
    results = in_order(range(40), tasks)
    first = next(results)
    assert first.value == 0 and sorted(set(tasks.started)) == list(range(12))  # 2 x room
    found = [first, *results]
    assert [result.item for result in found] == list(range(40))
    assert tasks.most == 6
    assert [result.item for result in found if result.kind != "ok"] == [7]
    assert found[7].kind == "died"
    assert found[7].failure == "its process died: the process of its task ended, 2 times"
    assert [result.value for result in found if result.item != 7] == [
        item**2 for item in range(40) if item != 7
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num_cpus", "2"], "--num_cpus 2 goes with --engine ray"),
        (["--ray_address", "a:1"], "--ray_address a:1 goes with --engine ray"),
        (["--engine", "ray", "--num_cpus", "0"], "--num_cpus 0: give 1 or more"),
        (["--engine", "ray", "--ray_address", "a"], "--ray_address a: expected HOST:PORT"),
        (["--engine", "ray", "--ray_address", "127.0.0.1:1"], "nothing answers there"),
    ],
)
def test_what_does_not_go_together_is_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.avi")
    assert main(["check", "--root", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_another_server_is_not_taken_for_ray(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.avi")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no address {host}")

    def answer() -> None:
        channel, _ = server.accept()
        with channel:
            channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            channel.recv(100)

    thread = threading.Thread(target=answer)
    with server:
        thread.start()
        address = f"[{host}]:{server.getsockname()[1]}"
        words = ["check", "--root", str(tmp_path), "--engine", "ray", "--ray_address", address]
        assert main(words) == 2
        thread.join()
    assert "what answers there is not Ray" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--num_gpus", "0.5"], ["--num_gpus", "-1"]])
def test_gpus_of_a_task(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    named = ["predict", "a.avi", "--engine", "ray", "--accelerator", "cpu", *words]
    assert main(named) == 2
    assert f"--num_gpus {words[1]}" in capsys.readouterr().err


def test_without_ray_its_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "ray" and there(name))
    assert main(["check", "--root", str(tmp_path), "--engine", "ray"]) == 2
    assert "pip install 'video-snl[ray]'" in capsys.readouterr().err


def test_a_second_start_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing is missing no cluster is looked for."""
    write_video(tmp_path / "in" / "a.avi")
    words = ["prepare", "--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*words, "--num_workers", "1"]) == 0
    away = ["--engine", "ray", "--ray_address", "127.0.0.1:1"]
    assert main([*words, *away]) == 0
    write_video(tmp_path / "in" / "b.avi")
    capsys.readouterr()
    assert main([*words, *away]) == 2
    assert "1 of 2 are there" in capsys.readouterr().err


@pytest.fixture(scope="module")
def raylets() -> Iterator[Any]:
    """Two machines of one CPU each, on this one, that only this one can reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        pytest.importorskip("ray")
        from ray.cluster_utils import Cluster as Raylets

        found = Raylets(initialize_head=True, head_node_args=_MACHINE)
        found.add_node(**_MACHINE)
        yield found
        found.shutdown()


_MACHINE = {"num_cpus": 1, "include_dashboard": False}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos in three folders, and one that is none."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(9):
        write_video(root / f"class{number % 3}" / f"v{number}.avi", 18 + number)
    (root / "class0" / "bad.avi").write_bytes(b"no video")
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("network")
    words = tiny_options(write_ucf101(folder / "ucf"), folder / "runs", optimizer__epochs=1)
    done = run_command("train", *words)
    assert done.returncode == 0, done.stderr
    return str(only_run(folder / "runs"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Twelve tracklets of four frames, and a network."""
    folder = tmp_path_factory.mktemp("people")
    words = reid_options(write_folder(folder / "data"), folder / "runs", optimizer__epochs=1)
    done = run_reid("train", *words)
    assert done.returncode == 0, done.stderr
    for number in range(12):
        write_tracklet(folder / "tracklets" / f"{number:02}", number, 0, frames=4)
    return str(folder / "tracklets"), str(only_run(folder / "runs"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["check", "prepare", "features", "predict", "extract"])
def test_two_machines_answer_as_one_process(
    name: str,
    raylets: Any,
    videos: Path,
    network: str,
    people: tuple[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code, what is printed and every byte that is written are the same."""
    monkeypatch.setattr(extracting, "_BLOCK_FRAMES", 8)
    of_network = ["--checkpoint", network, "--short_videos", "repeat_last"]
    tracklets, reid_network = people
    target = tmp_path / "local"
    words = {
        "check": ["check", "--root", str(videos), "--json", "--clip_frames", "20"],
        "prepare": ["prepare", "--root", str(videos), "--out", str(target)],
        "features": ["features", str(videos), *of_network, "-o", f"{target}.parquet"],
        "predict": ["predict", str(videos), *of_network, "--json"],
        "extract": ["extract", tracklets, "--checkpoint", reid_network, "-o", f"{target}.parquet"],
    }[name]
    program = reid_main if name == "extract" else main
    code = program(words)
    assert code == {"check": 1, "prepare": 1, "features": 2, "predict": 2, "extract": 0}[name]
    out, errors = capfd.readouterr()
    other = [word.replace(str(target), str(tmp_path / "ray")) for word in words]
    assert program([*other, "--engine", "ray", "--ray_address", raylets.address]) == code
    ray_out, ray_errors = capfd.readouterr()
    assert "2 machines, 2 tasks at once" in ray_errors
    assert ray_out.replace(str(tmp_path / "ray"), str(target)) == out
    bad = [line for line in errors.splitlines() if "bad.avi" in line]
    assert [line for line in ray_errors.splitlines() if "bad.avi" in line] == bad
    assert len(bad) == (name in ("prepare", "features", "predict"))
    assert _files(tmp_path, "ray") == _files(tmp_path, "local")


def _files(folder: Path, name: str) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    below = [path.relative_to(folder) for path in found]
    return {
        str(path).removeprefix(name): (folder / path).read_bytes()
        for path in below
        if str(path).startswith(name)
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_windows_over_videos(
    raylets: Any, videos: Path, network: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(videos), "--checkpoint", network, "--window", "16f", "--hop", "2f"]
    assert main(words) == 2
    local = capfd.readouterr().out
    assert main([*words, "--engine", "ray", "--ray_address", raylets.address]) == 2
    assert capfd.readouterr().out == local and local.count(" s - ") > 9


def _misbehave(path: str) -> np.ndarray:
    misbehave(path)
    return np.arange(100_000)  # it crosses in the shared buffer


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_file_that_kills_its_worker_is_what_it_is_locally(raylets: Any) -> None:
    names = [f"{kind}{number}" for number in range(3) for kind in ("fine", "killer", "bug")]
    names.insert(4, "stuck")
    local = {
        result.item: (result.kind, result.failure)
        for result in map_with_timeout(_misbehave, names, num_workers=2, deadline=3)
    }
    found = list(map_on_cluster(_misbehave, names, Cluster(raylets.address), deadline=3))
    assert [result.item for result in found] == names
    assert {result.item: (result.kind, result.failure) for result in found} == local
    assert {kind for kind, _ in local.values()} == {"ok", "died", "error", "timeout"}
    assert all(result.value.sum() == 4999950000 for result in found if result.value is not None)


class _KillsItsProcess:
    """Kill the process of the task at some numbers, and count how often each was tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> int:
        with (self.folder / str(number)).open("ab") as file:
            file.write(b".")
        tries = (self.folder / str(number)).stat().st_size
        if number == 3 or (number == 6 and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return number


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_of_ray_that_dies_costs_a_second_try(raylets: Any, tmp_path: Path) -> None:
    found = list(map_on_cluster(_KillsItsProcess(tmp_path), range(10), Cluster(raylets.address)))
    assert [result.value for result in found] == [0, 1, 2, None, 4, 5, 6, 7, 8, 9]
    assert found[3].kind == "died"
    assert found[3].failure == "its process died: the process of its task ended, 2 times"
    tries = [(tmp_path / str(number)).stat().st_size for number in (3, 6)]
    assert tries == [2, 2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_network_with_functions_of_functions_is_sent(raylets: Any) -> None:
    network = build_model(ModelConfig(backbone="x3d_xs", block="snl"), 3)[0].eval()
    with pytest.raises(AttributeError, match="Can't pickle local object"):
        pickle.dumps(network)
    clips = torch.ones(1, 3, 4, 64, 64)
    with torch.inference_mode():
        expected = network(clips).numpy()
    run = partial(_numbers, network)
    [found] = map_on_cluster(run, [clips], Cluster(raylets.address))
    np.testing.assert_allclose(found.value, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"cannot be sent to tasks of Ray \(.*lock.*\): leave out"):
        list(map_on_cluster(partial(_numbers, threading.Lock()), [clips], Cluster(raylets.address)))


@torch.inference_mode()
def _numbers(network: Any, clips: torch.Tensor) -> np.ndarray:
    return network(clips).numpy()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_published_network_is_sent(raylets: Any, real_data: Path, tmp_path: Path) -> None:
    """Those of pytorchvideo hold lambdas, which pickle does not take."""
    weights = real_data / "weights" / "x3d_xs_kinetics400_dequantised.pyth"
    if not weights.exists():
        pytest.skip(f"no {weights}")
    words = ["features", str(weights.with_name("archery.mp4")), "--pretrained", "x3d_xs"]
    words += ["--weights", str(weights), "-o"]
    assert main([*words, str(tmp_path / "local.parquet")]) == 0
    ray = ["--engine", "ray", "--ray_address", raylets.address]
    assert main([*words, str(tmp_path / "ray.parquet"), *ray]) == 0
    assert _files(tmp_path, "ray") == _files(tmp_path, "local")


def _span(number: int) -> tuple[float, float]:
    began = time.time()
    time.sleep(0.3)
    return began, time.time()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_as_many_tasks_at_once_as_are_asked_for(raylets: Any) -> None:
    one = [each.value for each in map_on_cluster(_span, range(6), Cluster(raylets.address))]
    spans = sorted(span for span in one if span)
    assert any(end > begin for (_, end), (begin, _) in pairwise(spans))
    two = map_on_cluster(_span, range(6), Cluster(raylets.address, at_once=1))
    spans = sorted(result.value for result in two if result.value)
    assert len(spans) == 6
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def _broken(number: int) -> int:
    raise (UserError if number else ZeroDivisionError)(f"number {number}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_bug_of_a_task_is_not_taken_for_a_bad_file(raylets: Any) -> None:
    [bad] = map_on_cluster(_broken, [1], Cluster(raylets.address))
    assert (bad.kind, bad.failure) == ("error", "number 1")
    with pytest.raises(UserError, match=r"a task of Ray failed \(ZeroDivisionError: number 0\)"):
        list(map_on_cluster(_broken, [0], Cluster(raylets.address)))


def _machine(number: int) -> tuple[int, str]:
    import ray

    time.sleep(0.2)
    return number, ray.get_runtime_context().get_node_id()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_machine_that_is_lost_loses_nothing(raylets: Any) -> None:
    third = raylets.add_node(**_MACHINE)
    found: list[tuple[int, str]] = []
    killed = False
    results = map_on_cluster(_machine, range(150), Cluster(raylets.address))
    for result in results:
        assert result.value is not None, result.failure
        found.append(result.value)
        if not killed and result.value[1] == third.node_id:
            raylets.remove_node(third, allow_graceful=False)
            killed = True
    assert killed and [number for number, _ in found] == list(range(150))
    assert len({machine for _, machine in found}) == 3


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_prepare_goes_on_without_a_machine(
    raylets: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        write_video(tmp_path / "in" / f"v{number:02}.avi", 60, (120, 160))
    words = ["prepare", "--root", str(tmp_path / "in"), "--short_side", "64", "--out"]
    assert main([*words, str(tmp_path / "local")]) == 0
    third = raylets.add_node(**_MACHINE)

    def kill() -> None:
        while len(list((tmp_path / "ray").glob("v*.avi"))) < 15:
            time.sleep(0.02)
        raylets.remove_node(third, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    engine = ["--engine", "ray", "--ray_address", raylets.address]
    code = main([*words, str(tmp_path / "ray"), *engine])
    killer.join()
    assert code == 0
    assert "3 machines, 3 tasks at once" in capfd.readouterr().err
    assert _files(tmp_path, "ray") == _files(tmp_path, "local")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_no_process_and_goes_on(
    number: signal.Signals,
    raylets: Any,
    network: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of a cluster that the command has started itself."""
    original = write_video(tmp_path / "in" / "000.avi")
    for name in range(1, 300):
        (tmp_path / "in" / f"{name:03}.avi").write_bytes(original.read_bytes())
    words = ["features", str(tmp_path / "in"), "--checkpoint", network, "-o"]
    words = [*words, str(tmp_path / "f.parquet"), "--short_videos", "repeat_last"]
    process = subprocess.Popen(
        command(*words, "--engine", "ray"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("computed:"):
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    others = descendants(process.pid)
    assert len(others) > 4
    # A terminal sends Ctrl-C to all; schedulers end the command alone.
    (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], rest
    assert f"what is done is in {tmp_path / 'f.parquet'}.parts; the same command goes on" in rest
    assert [pid for pid in others if not gone(pid)] == []
    capfd.readouterr()
    assert main([*words, "--engine", "ray", "--ray_address", raylets.address]) == 0
    said = capfd.readouterr().err
    assert "of 300 videos are computed already" in said and "2 tasks at once" in said
    assert main([*words, "--engine", "ray", "--ray_address", raylets.address]) == 0
    said = capfd.readouterr().err
    assert "300 of 300 videos are computed already" in said and "at once" not in said
    words[words.index("-o") + 1] = str(tmp_path / "local.parquet")
    assert main(words) == 0
    assert (tmp_path / "f.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_cluster_of_this_command_is_reached_from_here_alone(tmp_path: Path) -> None:
    """No process of it listens on another address than 127.0.0.1."""
    code = (
        "import os, pathlib, time\n"
        "from contextlib import suppress\n"
        "from tests.processes import descendants\n"
        "from video_snl.data.workers.cluster import Cluster, map_on_cluster\n"
        "for result in map_on_cluster(time.sleep, [0, 0], Cluster()):\n"
        "    for pid in (os.getpid(), *descendants(os.getpid())):\n"
        "        for file in pathlib.Path(f'/proc/{pid}/fd').iterdir():\n"
        "            with suppress(OSError):\n"
        "                print('own', os.readlink(file))\n"
        "    print(open('/proc/net/tcp').read(), open('/proc/net/tcp6').read(), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(HOME=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []  # Ray would write a token that ray start takes up
    own = set(re.findall(r"own socket:\[(\d+)\]", done.stdout))
    found = [address for address, inode in _listening(done.stdout) if inode in own]
    assert len(found) > 3
    assert set(found) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def _listening(table: str) -> set[tuple[str, str]]:
    """Return hexadecimal address and inode of the sockets that listen in tables of Linux."""
    rows = [line.split() for line in table.splitlines()]
    return {(row[1].split(":")[0], row[9]) for row in rows if len(row) > 9 and row[3] == "0A"}


@contextmanager
def _head(first: str = "") -> Iterator[tuple[str, Any]]:
    """Address and process of a machine that another process has started."""
    code = (
        f"import sys, ray\n{first}\n"
        "from ray.cluster_utils import Cluster\n"
        f"found = Cluster(initialize_head=True, head_node_args={_MACHINE!r})\n"
        "print(found.address, flush=True)\n"
        "sys.stdin.read()\n"
        "found.shutdown()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as head:
        assert head.stdout is not None and head.stdin is not None
        yield head.stdout.readline().strip(), head
        head.stdin.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_loss_of_the_first_machine_ends_the_command(raylets: Any, tmp_path: Path) -> None:
    """Not with the exit code 1 of a finding, which Ray's end of a process would give."""
    original = write_video(tmp_path / "in" / "0000.avi")
    for name in range(1, 2000):
        (tmp_path / "in" / f"{name:04}.avi").write_bytes(original.read_bytes())
    with _head() as (address, head):
        words = ["check", "--root", str(tmp_path / "in"), "--engine", "ray"]
        process = subprocess.Popen(
            command(*words, "--ray_address", address),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        line = ""
        while not line.startswith("checked:"):
            line = process.stderr.readline()
            assert line
        for pid in descendants(head.pid):
            os.kill(pid, signal.SIGKILL)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 2, rest
    assert f"error: the first machine of the cluster ({address}) is lost" in rest


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_without_its_token_a_cluster_cannot_be_joined(raylets: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "none")
    said = _refused(raylets.address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=file)
    assert file in said and "RAY_AUTH_MODE=token and ~/.ray/auth_token here" in said


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_cluster_of_another_version_is_refused(raylets: Any, tmp_path: Path) -> None:
    with _head("ray.__version__ = '2.0.0'") as (address, _):
        assert "Version mismatch" in _refused(address, tmp_path)


def _refused(address: str, folder: Path, **environ: str) -> str:
    """Return what a command says that cannot join a cluster."""
    write_video(folder / "a.avi")
    words = ["check", "--root", str(folder), "--engine", "ray", "--ray_address", address]
    done = run_command(*words, **environ)
    [line] = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"video-snl check: error: --ray_address {address}: no cluster of Ray")
    return line


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_task_that_no_machine_has_room_for_is_refused(raylets: Any) -> None:
    with pytest.raises(UserError, match="no machine of the cluster has 7 CPUs"):
        list(map_on_cluster(abs, [1], Cluster(raylets.address, num_cpus=7)))
