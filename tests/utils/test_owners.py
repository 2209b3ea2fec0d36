"""Another distribution that has files of the package reid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from video_snl.utils.owners import other_owner

REPOSITORY = Path(__file__).resolve().parents[2]


def _distribution(folder: Path, name: str, version: str, *files: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))


def test_a_distribution_that_has_our_file_is_found(tmp_path: Path) -> None:
    assert other_owner([str(tmp_path), str(tmp_path / "nowhere")]) is None
    _distribution(tmp_path, "video_snl", "0.2.0", "reid/__init__.py")
    _distribution(tmp_path, "reid", "0.9", "reid_tools/__init__.py")
    _distribution(tmp_path, "reid_tools", "1.0", "reid_tools/__init__.py")
    assert other_owner([str(tmp_path)]) is None
    _distribution(tmp_path, "Reid", "1.0.2", "reid/models.py", "reid/__init__.py")
    assert other_owner([str(tmp_path)]) == "Reid 1.0.2"


def test_nothing_of_the_kind_is_installed_here() -> None:
    assert other_owner() is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import video_snl; from video_snl import utils", 0),
        ("import sys; from video_snl.cli import main; sys.exit(main(['--version']))", 0),
        ("import sys; from video_snl.cli import start_reid; sys.exit(start_reid())", 2),
    ],
    ids=["import", "video-snl", "reid"],
)
def test_who_imports_the_package_and_both_programs_say_what_to_do(
    tmp_path: Path, code: str, status: int
) -> None:
    site = tmp_path / "site-packages"
    _distribution(site, "reid", "1.0", "reid/__init__.py")
    (site / "reid").mkdir()
    (site / "reid" / "__init__.py").write_text("import a_package_that_is_not_there\n")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{REPOSITORY}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert "reid 1.0 has written" in line
    assert "pip uninstall reid, then reinstall video-snl" in line


def test_the_program_starts_where_the_package_is_ours() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from video_snl.cli import start_reid; sys.argv[1:] = ['--version'];"
            "sys.exit(start_reid())",
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("reid 0.") and not done.stderr
