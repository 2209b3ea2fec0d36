"""The wheel works outside the repository; the pinned versions are complete and versions only."""

from __future__ import annotations

import configparser
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import video_snl

REPOSITORY = Path(__file__).resolve().parent.parent
_ANYWHERE = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")
_AT_THE_ROOT = {"build", "dist", "runs", "shared"}


def _no_sources(folder: str, names: list[str]) -> set[str]:
    at_the_root = _AT_THE_ROOT if Path(folder) == REPOSITORY else set()
    return _ANYWHERE(folder, names) | (at_the_root & set(names))


def _run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = tmp_path_factory.mktemp("sources") / "repository"
    shutil.copytree(REPOSITORY, sources, ignore=_no_sources)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", cwd=sources)
    (built,) = (sources / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target")
    _run(*pip, target, wheel, cwd=target)
    return target


def _requirements(*sections: tuple[str, str]) -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    lines = "\n".join(setup[section][option] for section, option in sections).splitlines()
    names = {re.split(r"[\[<>=!~; ]", line.strip(), maxsplit=1)[0] for line in lines}
    return {_normal(name) for name in names if name and not name.startswith("#")}


def _extras(*without: str) -> list[tuple[str, str]]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    names = setup["options.extras_require"].keys() - set(without)
    return [("options.extras_require", name) for name in names]


def _configs() -> set[str]:
    files = (REPOSITORY / "configs").rglob("*.yaml")
    return {file.relative_to(REPOSITORY).as_posix() for file in files}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _lock(python: str) -> list[str]:
    """The locked versions that are installed under a version of Python, without the condition."""
    environment = {"python_version": ".".join(python.split(".")[:2])}
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    wanted = [Requirement(line) for line in lines]
    return [
        f"{each.name}{each.specifier}"
        for each in wanted
        if each.marker is None or each.marker.evaluate(environment)
    ]


def _locked() -> dict[str, str]:
    return dict(line.split("==") for line in _lock(platform.python_version()))


def test_the_wheel_holds_every_module_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {name for name in names if ".dist-info/" not in name}
    packages = (REPOSITORY / "video_snl", REPOSITORY / "reid")
    sources = [path for package in packages for path in package.rglob("*.py")]
    for templates in (
        "reid/report/templates",
        "video_snl/analysis/explain/templates",
        "video_snl/commands/templates",
        "video_snl/engine/templates",
        "video_snl/render/templates",
        "video_snl/serve/templates",
    ):
        sources += (REPOSITORY / templates).iterdir()
    sources += [package / "py.typed" for package in packages]
    configs = {f"video_snl/{name}" for name in _configs()}
    assert modules == {path.relative_to(REPOSITORY).as_posix() for path in sources} | configs
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_has_the_version_and_the_command(wheel: Path) -> None:
    assert wheel.name == f"video_snl-{video_snl.__version__}-py3-none-any.whl"
    info = f"video_snl-{video_snl.__version__}.dist-info"
    commands = zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()
    assert "video-snl = video_snl.cli:main" in commands
    metadata = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    assert "Requires-Python: >=3.11" in metadata


def test_the_version_is_read_without_torch() -> None:
    code = "import sys, video_snl; assert video_snl.__version__ and 'torch' not in sys.modules"
    _run(sys.executable, "-c", code, cwd=REPOSITORY)


def test_sources_and_what_is_built_of_them_have_the_configurations(
    wheel: Path, tmp_path: Path
) -> None:
    sources = tmp_path / "repository"
    shutil.copytree(REPOSITORY, sources, ignore=_no_sources, symlinks=True)
    _run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", "out", cwd=sources)
    (archive,) = (sources / "out").glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert {*_configs()} <= {
        file.relative_to(unpacked).as_posix() for file in unpacked.rglob("configs/*/*.yaml")
    }
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out")
    _run(*build, cwd=unpacked)
    (built,) = (unpacked / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(zipfile.ZipFile(built).namelist()) == sorted(names)


def test_an_editable_installation_has_the_configurations(tmp_path: Path) -> None:
    sources, target = tmp_path / "repository", tmp_path / "installed"
    shutil.copytree(REPOSITORY, sources, ignore=_no_sources, symlinks=True)
    build = "import setuptools.build_meta as build; build.build_editable('out')"
    (sources / "out").mkdir()
    _run(sys.executable, "-c", build, cwd=sources)
    (built,) = (sources / "out").glob("*.whl")
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target")
    _run(*pip, target, built, cwd=tmp_path)
    # Without site, so that no other editable installation of this package is in the way.
    code = (
        f"import site, sys; site.addsitedir({str(target)!r})\n"
        f"sys.path.append({sysconfig.get_path('purelib')!r})\n"
        "from video_snl.config.files import named_configs, read_source\n"
        "print(read_source('digits/preresnet20_snl', '--config').name, len(named_configs()))"
    )
    done = _run(sys.executable, "-S", "-c", code, cwd=tmp_path, PYTHONPATH="")
    file = sources / "video_snl" / "configs" / "digits" / "preresnet20_snl.yaml"
    assert done.stdout.split() == [str(file), str(len(_configs()))]


@pytest.mark.slow
def test_a_configuration_is_found_by_name_elsewhere(installed: Path, tmp_path: Path) -> None:
    for program, name in (("video_snl", "finetune/x3d_xs_snl"), ("reid", "reid/sample.yaml")):
        words = (sys.executable, "-m", program, "train", "--config", name, "--print_config")
        done = _run(*words, cwd=tmp_path, PYTHONPATH=str(installed))
        assert done.stdout.startswith("task: ")
    table = ("table", "7", "--dataset", "sample", "--blocks", "snl", "--dry_run")
    words = (sys.executable, "-m", "video_snl", *table)
    done = _run(*words, cwd=tmp_path, PYTHONPATH=str(installed))
    assert f"--config {installed}/video_snl/configs/ucf101/sample.yaml" in done.stdout
    assert "Its configurations are those of" not in done.stdout


@pytest.mark.parametrize(
    "arguments", [("--help",), ("train", "--help", "all"), ("--version",)], ids=" ".join
)
def test_the_installed_module_answers_elsewhere(
    installed: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    command = (sys.executable, "-m", "video_snl", *arguments)
    done = _run(*command, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "video-snl" in done.stdout


def test_the_installed_package_is_the_wheels_not_the_repositorys(
    installed: Path, tmp_path: Path
) -> None:
    code = "import video_snl.cli as cli; print(cli.__file__)"
    done = _run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_the_installed_command_answers_elsewhere(installed: Path, tmp_path: Path) -> None:
    done = _run(installed / "bin" / "video-snl", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "describe" in done.stdout


def test_the_lock_is_versions_only() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pinned = re.compile(r"[a-z0-9][a-z0-9.-]*==[0-9][a-z0-9.]*( ; python_version < \"3\.[0-9]+\")?")
    assert [line for line in lines if not pinned.fullmatch(line)] == []


def test_every_requirement_is_locked() -> None:
    required = _requirements(("options", "install_requires"), *_extras("torchcodec", "wandb"))
    assert {"torch", "lightning", "pytest", "setuptools"} <= required
    assert required - _locked().keys() == {"video-snl"}


def test_what_runs_here_is_what_is_locked() -> None:
    """Only for the environment of the scripts: others may hold any allowed version."""
    if not (Path(sys.prefix) / "video-snl-stamp").is_file():
        pytest.skip("this environment was not made by scripts/_environment.sh")
    from importlib.metadata import distributions

    present = {_normal(d.metadata["Name"]): d.version for d in distributions()}
    differing = {n: (v, present.get(n)) for n, v in _locked().items() if present.get(n) != v}
    assert differing == {}


@pytest.fixture(scope="module")
def uv() -> tuple[str, ...]:
    """The fast installer, which shares the files of its cache: torch alone is several GB."""
    module = (sys.executable, "-m", "uv")
    if subprocess.run([*module, "--version"], capture_output=True).returncode == 0:
        return module
    found = shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed here")
    return (found,)


def _from_the_index(*words: str | Path, cwd: Path) -> str:
    """Run the installer; without an index there is nothing to be tested."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if re.search("dns error|error sending request|Could not connect", done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment(uv: tuple[str, ...], wheel: Path, extra: str, folder: Path) -> Path:
    """Install the wheel into an empty environment, in the pinned versions."""
    lock = REPOSITORY / "requirements.lock"
    _run(*uv, "venv", "--python", sys.executable, folder, cwd=folder.parent)
    install = (*uv, "pip", "install", "--python", folder / "bin" / "python", f"{wheel}{extra}")
    pins = ("--constraints", lock, "--build-constraints", lock)
    _from_the_index(*install, *pins, cwd=folder.parent)
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_core_installation_keeps_its_promises(
    uv: tuple[str, ...], wheel: Path, tmp_path: Path
) -> None:
    programs = _environment(uv, wheel, "", tmp_path / "core")
    code = "from importlib import metadata as m; print(*(d.name for d in m.distributions()))"
    names = {
        _normal(name) for name in _run(programs / "python", "-c", code, cwd=tmp_path).stdout.split()
    }
    assert {"video-snl", "torch", "numpy"} <= names
    assert not names & {"pyyaml", "jsonargparse", "torchvision", "lightning", "av", "pillow"}
    shutil.copy(REPOSITORY / "tests" / "core_only.py", tmp_path)
    words = ("-P", "core_only.py", REPOSITORY / "README.md")
    said = _run(programs / "python", *words, cwd=tmp_path, PYTHONPATH="").stdout
    assert said == "core: all that is promised\n"
    for name in ("video-snl", "reid"):
        assert (
            f"usage: {name} " in _run(programs / name, "--help", cwd=tmp_path, PYTHONPATH="").stdout
        )
        assert (
            f"{name} {video_snl.__version__}"
            in _run(programs / name, "--version", cwd=tmp_path, PYTHONPATH="").stdout
        )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_installation_with_all_extras_keeps_its_promises(
    uv: tuple[str, ...], wheel: Path, tmp_path: Path
) -> None:
    programs = _environment(uv, wheel, "[all]", tmp_path / "all")
    here = {"cwd": tmp_path, "PYTHONPATH": ""}
    for name, config in (("video-snl", "ucf101/sample"), ("reid", "reid/sample")):
        for command in ("train", "serve"):
            assert "usage: " in _run(programs / name, command, "--help", **here).stdout
        _run(programs / name, "describe", "--config", config, **here)
    video_snl = programs / "video-snl"
    small = ("--optimizer.epochs", "1", "--trainer.accelerator", "cpu")
    _run(video_snl, "train", "--config", "digits/preresnet20_snl", *small, **here)
    _run(video_snl, "evaluate", **here)
    _run(video_snl, "export", "-o", "model.onnx", **here)
    assert (tmp_path / "model.onnx").is_file()
    code = "import faiss, submitit, starlette, torchreid, captum, decord"
    _run(programs / "python", "-c", code, **here)


_SOURCES_ONLY = ("fvcore", "iopath", "pytorchvideo", "torchreid")
"""Pure Python that the index has as sources alone, for every version of Python."""


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11.0", "3.12", "3.13"])
def test_the_lock_resolves_to_files_that_are_built(
    uv: tuple[str, ...], python: str, tmp_path: Path
) -> None:
    lock = REPOSITORY / "requirements.lock"
    words = [*uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", lock]
    words += ["--python-version", python, "--only-binary", ":all:"]
    words += [word for name in _SOURCES_ONLY for word in ("--no-binary", name)]
    assert _from_the_index(*words, cwd=tmp_path).splitlines() == _lock(python)


def test_third_party_imports_are_required() -> None:
    """Whatever the package imports is named in setup.cfg, not only brought along by others."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    imported = {
        match
        for package in ("video_snl", "reid")
        for path in (REPOSITORY / package).rglob("*.py")
        for match in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    third_party = imported - set(sys.stdlib_module_names) - {"video_snl", "reid"}
    required = _requirements(("options", "install_requires"), *_extras("dev", "docs"))
    missing = {
        name
        for name in third_party
        if not {_normal(owner) for owner in owners.get(name, [name])} & required
    }
    assert missing == set()
