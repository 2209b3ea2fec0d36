"""The shell scripts, run for real with a Python that only pretends to install and to train."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = [
    *sorted((REPOSITORY / "scripts").rglob("*.sh")),
    *sorted((REPOSITORY / "scripts").rglob("*.sbatch")),
    REPOSITORY / ".ci" / "run",
]

# Stands for the system's Python and, copied, for the environment's. What it is asked to install
# is written to $CALLS; pip and uv fail while the file $BREAK_pip or $BREAK_uv exists.
_PYTHON = r"""#!/bin/bash
case "$1 $2" in
    "-m venv")
        environment=${*: -1}
        [[ $3 != --clear ]] || rm -rf "$environment"
        mkdir -p "$environment/bin"
        touch "$environment/pyvenv.cfg"
        cp "$0" "$environment/bin/python"
        cp "$COMMAND" "$environment/bin/video-snl"
        echo "venv ${3/#\/*/}" >>"$CALLS" ;;
    "-m pip" | "-m uv")
        echo "${*:2}" >>"$CALLS"
        [[ ! -e $BROKEN/${2} ]] ;;
    "-m pytest") echo "pytest ${*:3}" ;;
    "-m sphinx")
        echo "sphinx ${*: -3}" >>"$CALLS"
        mkdir -p "${*: -1}"
        touch "${*: -1}/index.html"
        [[ ! -e $BROKEN/sphinx ]] || { echo "a warning" >&2; exit 1; } ;;
    "-m http.server") echo "http.server ${*:3}" ;;
    scripts/documentation/*) echo "${1##*/} ${*:2}" >>"$CALLS" ;;
    "-c "*) ;;
    *) exit 99 ;;
esac
"""

# Stands for the command video-snl: says how it was called, and trains until it is stopped if the
# file $BROKEN/endless exists.
_COMMAND = r"""#!/bin/bash
echo "video-snl $*" >>"$CALLS"
[[ $1 == train ]] || exit "${EVALUATION:-0}"
trap 'echo stopped by INT >&2; exit 130' INT
trap 'echo stopped by TERM >&2; exit 143' TERM
echo "epoch 1"
if [[ -e $BROKEN/endless ]]; then
    touch "$BROKEN/started"
    for _ in {1..300}; do sleep 0.1; done
fi
mkdir -p runs/one
touch runs/one/best.ckpt
[[ -e $BROKEN/silent ]] || echo "run: runs/one"
exit "${TRAINING:-0}"
"""


class Sandbox:
    """A copy of the scripts in a repository of its own, with the pretended Python on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.bin, self.broken = (
            folder / name for name in ("a repository", "bin", "broken")
        )
        shutil.copytree(REPOSITORY / "scripts", self.repository / "scripts")
        for name in ("requirements.lock", "setup.cfg", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, self.repository)
        self.bin.mkdir()
        self.broken.mkdir()
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.program("python3", _PYTHON)
        self.command = self.program("pretended-video-snl", _COMMAND)
        self.log = folder / "calls"
        self.log.touch()

    def program(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, script: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("UCF101_ROOT", "VIDEO_SNL_VENV")
        }
        own = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "CALLS": str(self.log),
            "BROKEN": str(self.broken),
            "COMMAND": str(self.command),
        }
        return subprocess.Popen(
            [str(self.repository / "scripts" / script), *words],
            cwd=self.elsewhere,
            env={**inherited, **own, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *words: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(script, *words, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self) -> list[str]:
        """Return what was installed and run since the last call."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_parses(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_the_environment_is_made_once(sandbox: Sandbox) -> None:
    status, out, err = sandbox.run("test.sh", "-k", "some name")
    assert (status, out) == (0, "pytest -k some name\n")
    assert len(err.splitlines()) == 2, err
    venv, uv, packages, own = sandbox.calls()
    assert venv == "venv " and uv.startswith("pip install --quiet uv==")
    assert packages.startswith("uv pip install") and "requirements.lock" in packages
    assert "--editable" in own and "--no-build-isolation" in own
    assert sandbox.run("test.sh") == (0, "pytest -n auto --maxprocesses 8 --dist worksteal\n", "")
    assert sandbox.calls() == []


def test_a_new_lock_updates_the_environment(sandbox: Sandbox) -> None:
    sandbox.run("test.sh")
    sandbox.calls()
    with (sandbox.repository / "requirements.lock").open("a") as lock:
        lock.write("more==1.0\n")
    sandbox.run("test.sh")
    assert sandbox.calls()[0] == "venv "


def test_pip_installs_where_uv_cannot(sandbox: Sandbox) -> None:
    (sandbox.broken / "uv").touch()
    status, _, err = sandbox.run("test.sh")
    assert status == 0 and "installing with pip" in err
    assert any(call.startswith("pip install --quiet --requirement") for call in sandbox.calls())


def test_an_interrupted_installation_is_made_anew(sandbox: Sandbox) -> None:
    for name in ("uv", "pip"):
        (sandbox.broken / name).touch()
    status, out, _ = sandbox.run("test.sh")
    assert status != 0 and out == ""
    for name in ("uv", "pip"):
        (sandbox.broken / name).unlink()
    sandbox.calls()
    assert sandbox.run("test.sh")[0] == 0
    assert sandbox.calls()[0] == "venv --clear"


def test_another_place_for_the_environment(sandbox: Sandbox, tmp_path: Path) -> None:
    place = tmp_path / "not yet" / "here"
    assert sandbox.run("test.sh", VIDEO_SNL_VENV=str(place))[0] == 0
    assert (place / "video-snl-stamp").is_file()
    assert not (sandbox.repository / ".venv").exists()


def test_a_folder_of_other_things_is_left_alone(sandbox: Sandbox) -> None:
    (sandbox.elsewhere / "thesis.tex").touch()
    status, _, err = sandbox.run("test.sh", VIDEO_SNL_VENV=str(sandbox.elsewhere))
    assert status == 1 and err.startswith("error: ") and len(err.splitlines()) == 1
    assert [path.name for path in sandbox.elsewhere.iterdir()] == ["thesis.tex"]


_OLD = '#!/bin/bash\n[[ $1 == --version ]] && echo "Python 3.9.1" && exit\nexit 1\n'
_NO_VENV = "#!/bin/bash\n[[ $2 != *ensurepip* ]]\n"


@pytest.mark.parametrize(
    ("python", "expected"),
    [(_OLD, "3.11 or newer is needed, found: Python 3.9.1"), (_NO_VENV, "has no venv module")],
    ids=["too old", "without venv"],
)
def test_an_unfit_python_is_one_clear_line(sandbox: Sandbox, python: str, expected: str) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        sandbox.program(name, python)
    status, out, err = sandbox.run("test.sh")
    assert (status, out) == (1, "")
    assert expected in err and len(err.splitlines()) == 1
    assert not (sandbox.repository / ".venv").exists()


def test_a_fit_python_behind_an_old_one_is_found(sandbox: Sandbox) -> None:
    sandbox.program("python3", _OLD)
    sandbox.program("python3.12", _PYTHON)
    assert sandbox.run("test.sh")[0] == 0


def _commands(sandbox: Sandbox) -> list[str]:
    return [call for call in sandbox.calls() if call.startswith("video-snl")]


def test_training_without_ucf101_says_that_it_is_a_sample(sandbox: Sandbox) -> None:
    status, out, err = sandbox.run("train_ucf101.sh", "--optimizer.epochs", "1")
    assert status == 0, err
    assert "GENERATED" in out and "UCF101_ROOT=" in out and "epoch 1" in out
    assert "Results are in runs/one:\n  best.ckpt\n" in out
    train, evaluate = _commands(sandbox)
    config = sandbox.repository / "configs/ucf101/sample.yaml"
    assert train == f"video-snl train --config {config} --optimizer.epochs 1"
    assert evaluate == "video-snl evaluate --checkpoint runs/one"


def test_training_on_ucf101(sandbox: Sandbox) -> None:
    status, out, _ = sandbox.run("train_ucf101.sh", UCF101_ROOT="/data/ucf 101")
    assert status == 0 and "GENERATED" not in out
    config = sandbox.repository / "configs/ucf101/i3d_r50_snl.yaml"
    assert _commands(sandbox)[0] == f"video-snl train --config {config} --data.root /data/ucf 101"


def test_a_resumed_run_keeps_its_own_configuration(sandbox: Sandbox) -> None:
    sandbox.run("train_ucf101.sh", "--resume", UCF101_ROOT="/data")
    assert _commands(sandbox)[0] == "video-snl train --resume"


@pytest.mark.parametrize("code", [1, 2])
def test_failures_keep_their_exit_code(sandbox: Sandbox, code: int) -> None:
    assert sandbox.run("train_ucf101.sh", TRAINING=str(code))[0] == code
    assert len(_commands(sandbox)) == 1
    assert sandbox.run("train_ucf101.sh", EVALUATION=str(code))[0] == code


def test_training_that_names_no_run_is_an_error(sandbox: Sandbox) -> None:
    (sandbox.broken / "silent").touch()
    status, _, err = sandbox.run("train_ucf101.sh")
    assert status == 1 and "did not say where its run is" in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_training_and_tells_how_to_go_on(
    sandbox: Sandbox, sent: signal.Signals, code: int
) -> None:
    (sandbox.broken / "endless").touch()
    process = sandbox.start("train_ucf101.sh")
    _wait_for((sandbox.broken / "started").exists)
    process.send_signal(sent)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.count("stopped by") == 1 and "scripts/train_ucf101.sh --resume" in err
    assert len(_commands(sandbox)) == 1


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "training did not start"
        time.sleep(0.05)


def test_the_help_needs_no_environment(sandbox: Sandbox) -> None:
    status, out, _ = sandbox.run("train_ucf101.sh", "--help")
    assert status == 0 and "UCF101_ROOT=" in out and "set -euo" not in out
    assert sandbox.calls() == []


def test_the_site_is_built(sandbox: Sandbox) -> None:
    status, out, err = sandbox.run("docs.sh")
    assert status == 0 and out.endswith("a repository/site; begin with index.html.\n"), err
    assert (sandbox.repository / "site" / "index.html").is_file()
    assert sandbox.calls()[4:] == [
        "pages.py build/site/sources",
        "sphinx html build/site/sources build/site/html",
        "site_links.py build/site/html",
    ]


def test_a_warning_leaves_the_old_site(sandbox: Sandbox) -> None:
    site = sandbox.repository / "site"
    site.mkdir()
    (site / "old.html").touch()
    (sandbox.broken / "sphinx").touch()
    status, _, err = sandbox.run("docs.sh", "serve")
    assert status == 1 and err.endswith("a warning\n")
    assert [path.name for path in site.iterdir()] == ["old.html"]


def test_the_site_is_served_on_this_machine_only(sandbox: Sandbox) -> None:
    _, out, _ = sandbox.run("docs.sh", "serve", "8123")
    assert out.endswith("\nhttp.server --bind 127.0.0.1 --directory site 8123\n")


def test_addresses_are_asked_for_only_on_demand(sandbox: Sandbox) -> None:
    assert sandbox.run("docs.sh", "check")[0] == 0
    assert sandbox.calls()[-1] == "sphinx linkcheck build/site/sources build/site/links"


def test_an_unknown_word_for_the_site_is_one_line(sandbox: Sandbox) -> None:
    status, out, err = sandbox.run("docs.sh", "biuld")
    assert (status, out) == (2, "") and err.startswith("usage: scripts/docs.sh [build|")
    assert sandbox.calls() == []
