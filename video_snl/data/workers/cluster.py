"""A function mapped over items by tasks of Ray, on this machine or on several.

A task is one item, and its result goes to the process of the command, in the order of the items.
Files are read as in the local engine: in a task, a pool of one worker calls the function, so that a
file that hangs, or kills what reads it, costs what it costs there and leaves the same message. What
is left for this module is the loss of the tasks themselves, with their process or their machine.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from video_snl._version import __version__
from video_snl.data.workers.pool import DecodeResult, Pool, map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.processes import ending_in_order

__all__ = ["Cluster", "in_order", "map_files", "map_on_cluster"]

T = TypeVar("T")
R = TypeVar("R")

_KILLED = 2  # processes that may end at an item before it is given up
_LOST = 5  # machines that may be lost at an item
_WINDOW = 2  # results that wait for their turn, for each task that may be under way
_TURN = 1.0  # seconds; the longest uninterrupted wait
_LOOK_EVERY = 5.0  # seconds between looks at the machines of the cluster
# Seconds after which Ray knows a lost machine; before that it would send the item there again, and
# an item that has lost its process twice would be taken for the cause.
_REST = 40.0
_PATIENCE = 60.0  # seconds without a machine that could take a task
# Seconds without an answer of the first machine: after 60, Ray ends this process, with exit code 1.
_HEAD_PATIENCE = 25.0
_CONNECT = 10.0  # seconds
# What begins HTTP/2, with an empty frame of settings; the answer begins with such a frame.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2_SETTINGS = bytes([4])
_TOKEN = "; one that asks for a token needs RAY_AUTH_MODE=token and ~/.ray/auth_token here, too"
_SAME = "every machine needs the same versions of Ray, video-snl and its packages, and the files"


@dataclass(frozen=True)
class Cluster:
    """A cluster of Ray, and what a task of it takes.

    Attributes:
        address: HOST:PORT of the cluster, or ``auto`` for the one of this machine; None: start one
            on this machine, and stop it afterwards.
        num_cpus: CPUs of a task, and threads of its network.
        num_gpus: GPUs of a task.
        at_once: Most tasks at once; None: as many as there is room for.
    """

    address: str | None = None
    num_cpus: int = 1
    num_gpus: float = 0.0
    at_once: int | None = None

    @property
    def accelerator(self) -> Literal["cpu", "gpu"]:
        """Where the network of a task runs."""
        return "gpu" if self.num_gpus else "cpu"


def map_files(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    num_workers: int,
    deadline: float,
    cluster: Cluster | None = None,
) -> Generator[DecodeResult[T, R], None, None]:
    """Map a function that reads files, by the pool of this process or on a cluster.

    Args:
        function, items, num_workers, deadline: As for
            :func:`~video_snl.data.workers.pool.map_with_timeout`.
        cluster: The cluster; None: the pool.
    """
    if cluster is None:
        return map_with_timeout(function, items, num_workers=num_workers, deadline=deadline)
    return map_on_cluster(function, items, cluster, deadline=deadline)


def map_on_cluster(
    function: Callable[[T], R],
    items: Sequence[T],
    cluster: Cluster,
    *,
    deadline: float | None = None,
) -> Generator[DecodeResult[T, R], None, None]:
    """Call a function on every item in tasks of Ray, and yield the results in the order of items.

    The function is sent once, and each process of Ray unpickles it once. No more results are held
    than there are tasks at once, times four. An item whose process ends twice is a failure of the
    kind ``died``. Without a deadline, an exception that is no UserError ends the command. Without
    items no cluster is needed. Close the generator, or run it to its end, to leave the cluster.

    Args:
        function: Function that cloudpickle can pickle, as it can networks with lambdas (X3D);
            items and values likewise.
        items: The items.
        cluster: The cluster.
        deadline: Time limit of one item, in seconds, each of which is then done in a process of its
            own that can be killed; None: no limit, in the process of the task.

    Raises:
        UserError: The function cannot be pickled, no cluster answers at the address or one of
            another version, no machine of it has what a task needs, its first machine is lost, or
            a task fails as a whole.
    """
    if not items:
        return
    with _connected(cluster):
        tasks: _RayTasks[T, R] = _RayTasks(function, cluster, deadline)
        with closing(in_order(items, tasks)) as results:
            yield from results


class Tasks(Protocol[T, R]):
    """What starts tasks and knows their results, for :func:`in_order`."""

    def room(self) -> int:
        """Return how many tasks may be under way, at least 1."""

    def start(self, item: T) -> Any:
        """Start a task, and return its name."""

    def wait(self, names: list[Any]) -> Iterable[Any]:
        """Return the names of tasks that have ended; there may be none."""

    def result(self, name: Any, item: T) -> DecodeResult[T, R]:
        """Return the result of a task that has ended.

        Raises:
            LostError: Its process, its machine or its result is gone.
        """


class LostError(Exception):
    """A task whose result will never come, because of the end of its process or its machine."""

    def __init__(self, reason: str, most: int, rest: float = 0.0) -> None:
        super().__init__(reason)
        self.most = most  # attempts that end so
        self.rest = rest  # seconds before the next one


@dataclass
class _Item(Generic[T, R]):
    item: T
    losses: Counter[str] = field(default_factory=Counter)  # by their reason
    begin: float = 0.0  # of the next attempt
    result: DecodeResult[T, R] | None = None


def in_order(items: Iterable[T], tasks: Tasks[T, R]) -> Generator[DecodeResult[T, R], None, None]:
    """Run a task for every item, and yield the results in the order of the items.

    Where the first of them takes long, results of twice as many as may be under way wait for it. An
    item is given up once one reason has lost it so often as the reason says.
    """
    waiting: deque[_Item[T, R]] = deque()  # in order; some are done
    running: dict[Any, _Item[T, R]] = {}
    resting: list[_Item[T, R]] = []
    source = iter(items)
    exhausted = False
    while True:
        room = tasks.room()
        # Those that rest keep their place.
        while (
            not exhausted and len(running) + len(resting) < room and len(waiting) < _WINDOW * room
        ):
            try:
                begun = _Item[T, R](next(source))
            except StopIteration:
                exhausted = True
                break
            running[tasks.start(begun.item)] = begun
            waiting.append(begun)
        while waiting and (result := waiting[0].result) is not None:
            waiting.popleft()
            yield result
        if not waiting and exhausted:
            return
        for rested in [each for each in resting if each.begin <= time.monotonic()]:
            resting.remove(rested)
            running[tasks.start(rested.item)] = rested
        if not running:
            time.sleep(_TURN if resting else 0)
            continue
        for name in tasks.wait(list(running)):
            ended = running.pop(name)
            try:
                ended.result = tasks.result(name, ended.item)
            except LostError as lost:
                reason = str(lost)
                ended.losses[reason] += 1
                if (times := ended.losses[reason]) < lost.most:
                    ended.begin = time.monotonic() + lost.rest
                    resting.append(ended)
                    continue
                failure = f"its process died: {reason}, {times} times"
                ended.result = DecodeResult(ended.item, None, failure, "died", 0.0)


class _Job(NamedTuple):
    """What all tasks of a command share."""

    key: str
    function: list[Any]  # the reference to the pickled function, which Ray would look for outside
    deadline: float | None
    threads: int
    folder: str
    version: str


class _RayTasks(Generic[T, R]):
    """Tasks of the cluster that this process is connected to.

    Args:
        function, cluster, deadline: As for :func:`map_on_cluster`.

    Raises:
        UserError: The function cannot be pickled, or no machine of the cluster has what a task
            needs.
    """

    def __init__(
        self, function: Callable[[T], R], cluster: Cluster, deadline: float | None
    ) -> None:
        import ray
        from ray import cloudpickle

        self._ray, self._cluster = ray, cluster
        try:
            reference = ray.put(cloudpickle.dumps(function))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"the network cannot be sent to tasks of Ray ({_last_line(error)}): leave out "
                "--engine ray"
            ) from error
        threads = cluster.num_cpus
        self._job = _Job(reference.hex(), [reference], deadline, threads, os.getcwd(), __version__)
        # A lost task is begun again here: Ray would not tell a process that was killed from a lost
        # machine, and would begin a task again without end where memory is short.
        self._run = ray.remote(num_cpus=cluster.num_cpus, num_gpus=cluster.num_gpus, max_retries=0)(
            _run
        )
        self._slots, self._looked, self._lacking = 0, 0.0, 0.0
        self._head = ray.get_runtime_context().gcs_address
        self._answered = time.monotonic()
        self._look()
        if not self._slots:
            raise UserError(self._too_small())
        machines = sum(node["Alive"] for node in ray.nodes())
        at_once = min(self._slots, cluster.at_once or self._slots)
        said = f"{counts(machines, 'machine')}, {counts(at_once, 'task')} at once"
        print(f"Ray {ray.__version__}: {said}", file=sys.stderr, flush=True)

    def room(self) -> int:
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._look()
        at_once = self._cluster.at_once
        if at_once is not None and at_once < self._slots:  # Ray would begin what waits
            return at_once
        return max(1, 2 * self._slots)  # so that no task waits for this process

    def start(self, item: T) -> Any:
        return self._run.remote(self._job, item)

    def wait(self, names: list[Any]) -> Iterable[Any]:
        done, left = self._ray.wait(names, num_returns=1, timeout=_TURN)
        if done and left:  # all others that have ended meanwhile, in one call
            done += self._ray.wait(left, num_returns=len(left), timeout=0)[0]
        return done

    def result(self, name: Any, item: T) -> DecodeResult[T, R]:
        errors = self._ray.exceptions
        try:
            kind, value, failure, seconds = self._ray.get(name)
        except errors.WorkerCrashedError as error:
            raise LostError("the process of its task ended", _KILLED, _REST) from error
        except errors.OutOfMemoryError as error:
            raise LostError("the machine of its task ran out of memory", _KILLED) from error
        except (errors.NodeDiedError, errors.ObjectLostError) as error:
            raise LostError("the machine of its task was lost", _LOST) from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise UserError(
                f"a task of Ray failed ({_last_line(error)}); if it does not without --engine ray, "
                f"the machines differ: {_SAME}"
            ) from error
        except errors.RayError as error:
            raise UserError(f"Ray failed: {_last_line(error)}") from error
        return DecodeResult(item, value, failure, kind, seconds)

    def _look(self) -> None:
        """Count the tasks that the machines have room for."""
        now = self._looked = time.monotonic()
        if not _answers(self._head):  # Ray would wait for it
            if now - self._answered > _HEAD_PATIENCE:
                raise UserError(
                    f"the first machine of the cluster ({self._head}) is lost: start the cluster, "
                    "and give the command again; what is done is kept"
                )
            return
        self._answered = now
        need = {"CPU": float(self._cluster.num_cpus), "GPU": self._cluster.num_gpus}
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._slots = sum(
            int(min(has.get(name, 0) / wanted for name, wanted in need.items() if wanted))
            for has in alive
        )
        if self._slots:
            self._lacking = now
        elif now - self._lacking > _PATIENCE and self._lacking:
            raise UserError(f"{self._too_small()}: start machines, and give the command again")

    def _too_small(self) -> str:
        needs = [counts(self._cluster.num_cpus, "CPU")]
        if self._cluster.num_gpus:
            needs.append(f"{self._cluster.num_gpus:g} GPU")
        return (
            f"no machine of the cluster has {' and '.join(needs)} for a task "
            "(--num_cpus, --num_gpus)"
        )


_Answer = tuple[str, Any, str | None, float]  # kind, value, failure and seconds of a result
# The function of the command, in a process of Ray, which serves one command alone.
_loaded: dict[str, Callable[[Any], _Answer]] = {}


def _run(job: _Job, item: Any) -> _Answer:
    """Do a task, in a process of Ray.

    Raises:
        UserError: This machine cannot do any task of the command.
    """
    if job.key not in _loaded:
        _loaded[job.key] = _load(job)
    return _loaded[job.key](item)


def _load(job: _Job) -> Callable[[Any], _Answer]:
    import ray

    machine = socket.gethostname()
    if job.version != __version__:
        raise UserError(
            f"{machine} has video-snl {__version__}, and the command is of {job.version}: {_SAME}"
        )
    try:
        os.chdir(job.folder)
    except OSError as error:
        raise UserError(
            f"{machine} cannot enter {job.folder} ({error.strerror}): the folder of the command, "
            "and those that it names, are to be on a disk that all machines share"
        ) from error
    pickled = ray.get(job.function[0])
    if job.deadline is not None:
        pool: Pool[Any, Any] = Pool(_Pickled(pickled), 1, job.deadline, ahead=1, copy_values=True)
        return partial(_by_pool, pool)
    import torch

    from video_snl.utils.memory import keep_freed_memory

    torch.set_num_threads(job.threads)
    keep_freed_memory()
    return partial(_here, pickle.loads(pickled))


def _by_pool(pool: Pool[Any, Any], item: Any) -> _Answer:
    pool.submit(item)
    results: list[DecodeResult[Any, Any]] = []
    while not results:
        results = list(pool.finished())
    [result] = results
    return result.kind, result.value, result.failure, result.seconds


def _here(function: Callable[[Any], Any], item: Any) -> _Answer:
    began = time.perf_counter()
    try:
        value = function(item)
    except UserError as error:
        return "error", None, str(error), time.perf_counter() - began
    return "ok", value, None, time.perf_counter() - began


class _Pickled:
    """A pickled function that is pickled as it is, so that only workers load its modules."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self._pickled,)

    def __call__(self, item: Any) -> Any:
        return pickle.loads(self._pickled)(item)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """Connect to a cluster, or start one that only this machine can reach; leave it at the end.

    Raises:
        UserError: No cluster answers, or one of another version.
    """
    if cluster.address is not None:
        _check_address(cluster.address)
    # Before the import, which reads them. The second has Ray listen on 127.0.0.1 alone, as it does
    # on systems for which it knows no clusters.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if cluster.address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Other users of this machine reach 127.0.0.1, too, so Ray asks for a token. It would write
        # one into ~/.ray, and ray start would ask for that on every later start.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    # What Ray has to say of machines would come in between the results, on standard output.
    ray._private.worker._worker_logs_enabled = False
    own = (cluster.at_once or 0) * cluster.num_cpus or len(os.sched_getaffinity(0))
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(
                cluster.address or "local",
                num_cpus=None if cluster.address else own,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except SystemExit as error:  # by the handler of Ray, whose exit code is the signal's number
            raise SystemExit(128 + signal.SIGTERM) from error
        except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
            what = f"--ray_address {cluster.address}: no cluster of Ray can be joined there"
            said = what if cluster.address else "Ray cannot be started on this machine"
            why = " ".join(str(error).split())
            raise UserError(f"{said} ({why}){_TOKEN if cluster.address else ''}") from error
        finally:
            if main:
                signal.signal(signal.SIGTERM, before)
        with ending_in_order():
            yield
    finally:
        ray.shutdown(wait_for_processes=True)


def _check_address(address: str) -> None:
    """Refuse an address where no gRPC answers, as Ray speaks it: Ray would wait for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or "//" in host or not port.isdecimal():
        raise UserError(
            f"--ray_address {address}: expected HOST:PORT as ray start prints it, or auto"
        )
    advice = (
        "start the cluster by ray start --head, or leave the option out for one of this command"
    )
    try:
        with _connect(address, _CONNECT) as channel:
            if os.environ.get("RAY_USE_TLS") == "1":
                return
            channel.sendall(_HTTP2_HELLO)
            answer = channel.recv(4)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"--ray_address {address}: nothing answers there ({error}): {advice}"
        ) from error
    if answer[3:] != _HTTP2_SETTINGS:
        raise UserError(f"--ray_address {address}: what answers there is not Ray: {advice}")


def _answers(address: str) -> bool:
    """Tell whether a port can be reached."""
    try:
        _connect(address, _TURN).close()
    except OSError:
        return False
    return True


def _connect(address: str, seconds: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), seconds)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
