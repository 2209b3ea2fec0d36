"""Worker processes that are stuck, killed, broken or slow."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.processes import gone, open_files, shared_memory
from tests.tiny import environment
from video_snl.data.workers.channel import Channel, channel_pair
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.data.workers.pool import DecodeResult, Pool, map_with_timeout
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)


def behave(item: int | str) -> object:
    """Do what the item says."""
    if item == "stuck":
        ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the GIL: no Python runs, no signal handler
    elif item == "segfault":
        ctypes.string_at(0)
    elif item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif item == "leaves":
        sys.exit(3)
    elif item == "bad":
        raise UserError("bad.avi is bad")
    elif item == "bug":
        return {}["no such key"]
    elif item == "lambda":
        return lambda: None
    elif item == "large":
        return np.arange(3_000_000)
    elif item == "text":
        return "x" * 100_000
    elif item == "pid":
        return os.getpid()
    return item


class Unloadable:
    def __reduce__(self):
        return (int, ("no number",))

    def __call__(self, item):
        return item


def results_of(items, num_workers=2, deadline=30.0):
    return list(map_with_timeout(behave, items, num_workers=num_workers, deadline=deadline))


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_every_item_has_one_outcome(num_workers: int) -> None:
    found = results_of(range(50), num_workers)
    assert sorted(o.item for o in found) == list(range(50))
    assert all(
        o == DecodeResult(o.item, o.item, None, "ok", o.seconds) and o.seconds >= 0 for o in found
    )


def test_items_are_read_as_they_are_needed() -> None:
    read = []
    results = map_with_timeout(
        behave, (read.append(i) or i for i in range(1000)), num_workers=2, deadline=9
    )
    for _ in range(5):
        next(results)
    assert len(read) < 20
    results.close()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_are_one_line(num_workers: int) -> None:
    found = {o.item: o for o in results_of(["bad", "bug", "fine"], num_workers)}
    assert (found["bad"].kind, found["bad"].failure) == ("error", "bad.avi is bad")
    assert found["bug"].kind == "error" and found["bug"].value is None
    assert found["bug"].failure.startswith("KeyError: 'no such key' (test_pool.py:")
    assert found["fine"].value == "fine"


def test_a_task_stuck_in_native_code_is_killed_at_its_deadline() -> None:
    began = time.monotonic()
    found = results_of(["stuck", *range(20), "stuck", *range(20, 40)], deadline=1.0)
    kinds = Counter(o.kind for o in found)
    assert kinds == {"ok": 40, "timeout": 2}
    for result in found:
        if result.kind == "timeout":
            assert result.item == "stuck" and 1 <= result.seconds < 5
            assert result.failure == "took longer than 1 s"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("item", "ending"),
    [("segfault", "SIGSEGV"), ("killed", "SIGKILL"), ("leaves", "exit code 1")],
)
def test_a_worker_that_dies_is_replaced(item: str, ending: str) -> None:
    found = results_of([item, *range(20), item])
    assert Counter(o.kind for o in found) == {"ok": 20, "died": 2}
    failures = {o.failure for o in found if o.kind == "died"}
    assert failures == {f"its process died: {ending}"}


def test_workers_killed_from_outside_at_any_moment_lose_nothing() -> None:
    pool: Pool[int, int] = Pool(behave, 2, 30, copy_values=True)
    random = np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    submitted = killed = 0
    while submitted < 400 or pool.unfinished:
        while submitted < 400 and pool.unfinished < 12:
            pool.submit(submitted)
            submitted += 1
        kinds.update(result.kind for result in pool.finished())
        if random.random() < 0.02 and pool.pids:
            os.kill(random.choice(pool.pids), signal.SIGKILL)
            killed += 1
    assert killed > 3 and kinds.total() == 400
    assert kinds["ok"] >= 400 - killed and set(kinds) <= {"ok", "died"}
    pool.close()


def test_large_values_come_back_whole() -> None:
    found = {o.item: o.value for o in results_of(["large", "text", 1])}
    assert np.array_equal(found["large"], np.arange(3_000_000)) and len(found["text"]) == 100_000
    found["large"][0] = 5  # a copy of the caller's own


def test_large_items_arrive() -> None:
    [result] = map_with_timeout(len, ["x" * 1_000_000], num_workers=1, deadline=30)
    assert result.value == 1_000_000


def test_values_that_cannot_be_sent_are_errors() -> None:
    [result] = results_of(["lambda"])
    assert result.kind == "error" and "pickle" in result.failure


def test_a_function_that_cannot_be_loaded_is_an_error_of_the_program() -> None:
    with pytest.raises(RuntimeError, match="a worker cannot load its function(.|\n)*no number"):
        list(map_with_timeout(Unloadable(), [1], num_workers=1, deadline=9))


@pytest.mark.slow
def test_the_forkserver_has_one_thread_and_may_be_killed() -> None:
    [first] = results_of(["pid"])
    assert len(os.listdir(f"/proc/{start_forkserver().pid}/task")) == 1
    os.kill(start_forkserver().pid, signal.SIGKILL)
    assert gone(start_forkserver().pid)
    assert Counter(o.kind for o in results_of(range(10))) == {"ok": 10}
    assert first.value != os.getpid()


def test_an_interruption_leaves_no_answer_for_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(self: Channel) -> None:
        raise KeyboardInterrupt

    results_of([1])
    first = start_forkserver()
    ours, theirs = channel_pair()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Channel, "receive", interrupted)
        first.start_worker(theirs)
    with pytest.raises(OSError):
        first.start_worker(theirs)
    ours.close()
    theirs.close()
    assert start_forkserver() is not first and gone(first.pid)
    assert [o.value for o in results_of([1])] == [1]


@pytest.mark.slow
def test_a_system_without_room_for_a_process_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_fork = "import errno, os\ndef fork():\n    raise OSError(errno.EAGAIN, 'no room')\n"
    (tmp_path / "sitecustomize.py").write_text(f"{no_fork}os.fork = fork\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}")
    start_forkserver().forget()
    with pytest.raises(UserError, match=r"\(no room\); lower --data\.num_workers"):
        results_of([1])
    assert start_forkserver().alive()
    start_forkserver().forget()


def test_signals_to_the_group_are_not_for_workers() -> None:
    pool: Pool[str, int] = Pool(behave, 1, 30)
    pool.submit("pid")
    while not pool.pids or pool.unfinished:
        list(pool.finished())
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        os.kill(pool.pids[0], sent)
        os.kill(start_forkserver().pid, sent)
    pool.submit("pid")
    before = pool.pids
    values = []
    while pool.unfinished:
        values += [result.value for result in pool.finished()]
    assert values == before == pool.pids and pool.replaced == 0
    pool.close()


def test_nothing_is_left_behind() -> None:
    results_of([1])
    before, shared = open_files(), shared_memory()
    pids = [o.value for o in results_of(["pid"] * 20)]
    results_of(["stuck", "killed", 1, 2], deadline=1.0)
    half = map_with_timeout(behave, iter(["pid", "stuck", "stuck"]), num_workers=2, deadline=99)
    pids.append(next(half).value)
    half.close()
    assert all(gone(pid) for pid in pids)
    assert open_files() == before and shared_memory() == shared


SCRIPT = """
import ctypes, os, sys
from video_snl.data.workers.pool import map_with_timeout
def function(item):
    if item:
        print(os.getpid(), os.getppid(), flush=True)
        ctypes.PyDLL(None).sleep(1000)
    return item
if __name__ == "__main__":
    [first] = map_with_timeout(function, [0], num_workers=1, deadline=99)
    print([first.value], flush=True)
    list(map_with_timeout(function, [1, 1], num_workers=2, deadline=99))
"""


def test_stuck_workers_die_with_a_killed_process(tmp_path: Path) -> None:
    """Also: a function of ``__main__`` is found."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout.readline() == "[0]\n"
    pids = {int(pid) for _ in range(2) for pid in process.stdout.readline().split()}
    assert len(pids) == 3
    process.kill()
    process.wait()
    assert all(gone(pid) for pid in pids)
    process.stdout.close()


def test_a_process_that_ends_at_once_does_not_leave_its_forkserver_importing() -> None:
    script = (
        "from video_snl.data.workers.forkserver import start_forkserver\n"
        "print(start_forkserver().pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment()
    )
    assert gone(int(done.stdout), 0.5) and not done.stderr


def test_a_caller_that_takes_long_over_an_outcome_costs_no_worker() -> None:
    results = map_with_timeout(time.sleep, [0.6, 0.7, 0.6, 0.7], num_workers=2, deadline=1.5)
    kinds = [next(results).kind]
    time.sleep(3)
    assert kinds + [result.kind for result in results] == ["ok"] * 4


@pytest.mark.slow
def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path: Path) -> None:
    """Ctrl-Z stops the process and its workers; a deadline must not pass meanwhile."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom video_snl.data.workers.pool import map_with_timeout\n"
        "def function(item):\n    print('begun', flush=True)\n    time.sleep(1.5)\n"
        "if __name__ == '__main__':\n"
        "    [o] = map_with_timeout(function, [1], num_workers=1, deadline=3)\n    print(o.kind)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout.readline() == "begun\n"
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(5)
    os.killpg(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == "ok\n"
