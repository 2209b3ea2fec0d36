"""Files that others need to carry the project on: there, parsed, and in agreement."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import video_snl
from video_snl._version import __version__

REPOSITORY = Path(__file__).resolve().parent.parent


def _yaml(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def _text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"])
def test_a_contributor_finds(name: str) -> None:
    assert _text(name).strip()


def test_the_readme_is_short() -> None:
    assert len(_text("README.md").split()) <= 1000


def test_the_workflow_runs_the_checks_on_every_supported_python() -> None:
    workflow = _yaml(".github/workflows/ci.yml")
    job = workflow["jobs"]["checks"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    classifiers = setup["metadata"]["classifiers"]
    supported = re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE)
    assert job["strategy"]["matrix"]["python"] == supported


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_templates(name: str) -> None:
    template = _yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert template["name"] and template["description"]
    identifiers = [entry["id"] for entry in template["body"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(entry["attributes"]["label"] for entry in template["body"])
    assert _text(".github/PULL_REQUEST_TEMPLATE.md").startswith("## ")


def test_pre_commit_has_the_ruff_of_the_lock() -> None:
    [repository] = _yaml(".pre-commit-config.yaml")["repos"]
    [locked] = re.findall(r"^ruff==(.+)$", _text("requirements.lock"), re.MULTILINE)
    assert repository["rev"] == f"v{locked}"
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format"]


def test_metadata_stand_in_one_place() -> None:
    settings = tomllib.loads(_text("pyproject.toml"))
    assert "project" not in settings
    assert not (REPOSITORY / "setup.py").exists()


def test_the_version_is_said_alike_everywhere() -> None:
    assert video_snl.__version__ == __version__
    citation = _yaml("CITATION.cff")
    assert citation["version"] == __version__
    [dated] = re.findall(rf"^## \[{re.escape(__version__)}\] - (\S+)$", _text("CHANGELOG.md"), re.M)
    assert str(citation["date-released"]) == dated


def test_the_citation_names_the_paper() -> None:
    citation = _yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["authors"]
    [paper] = citation["references"]
    assert paper["title"] == "Unifying Nonlocal Blocks for Neural Networks"
    assert paper["url"].endswith("2108.02451") and paper["year"] == 2021
    assert [author["family-names"] for author in paper["authors"]][0] == "Zhu"


def test_both_packages_say_that_they_have_types() -> None:
    assert (REPOSITORY / "video_snl/py.typed").is_file()
    assert (REPOSITORY / "reid/py.typed").is_file()
