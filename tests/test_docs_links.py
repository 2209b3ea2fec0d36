"""The documentation's links lead somewhere; other sites are not asked (scripts/docs.sh check)."""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.pages import PAGES, REPOSITORY, anchors_of, links_of, name_of

sys.path.insert(0, str(REPOSITORY / "scripts" / "documentation"))

from command_pages import command_pages  # noqa: E402
from pages import GROUPS, REFERENCE, grouped, main  # noqa: E402
from site_links import broken_links  # noqa: E402

sys.path.pop(0)


def _fault(page: Path, link: str) -> str | None:
    """Return what is wrong with a link, if anything."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        well_formed = parts.scheme in ("http", "https") and "." in parts.netloc
        return None if well_formed and " " not in unquote(link) else "no address"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return "no such file"
    if not target.is_relative_to(REPOSITORY):
        return "outside the repository"
    if parts.fragment and target.suffix == ".md" and parts.fragment not in anchors_of(target):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    faults = {link: fault for link in links_of(page) if (fault := _fault(page, link))}
    assert faults == {}


def test_wrong_links_are_found(tmp_path: Path) -> None:
    page = REPOSITORY / "docs" / "ucf101.md"
    assert _fault(page, "nowhere.md") == "no such file"
    assert _fault(page, "blocks.md#no-such-heading") == "no such heading"
    assert _fault(page, "https://nowhere") == "no address"
    assert _fault(page, "reading-videos.md#bad-files") is None


def test_wrong_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a> <a href="b.html#not"></a> <img src="c%20d.png">'
        '<a href="https://example.org/x"></a> <a href="#self" id="self"></a> <a href="e.html"></a>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    (tmp_path / "c d.png").touch()
    assert broken_links(tmp_path) == ["a.html: b.html#not", "a.html: e.html"]


def test_every_page_stands_in_the_navigation_once() -> None:
    pages = ["index", "CHANGELOG", "docs/blocks", "docs/brand-new", "docs/reid/also-new"]
    groups = grouped(pages)
    assert sorted(page for members in groups.values() for page in members) == sorted(pages)
    assert groups["Re-identification"] == ["docs/reid/also-new"]
    assert groups["More"] == ["docs/brand-new", "CHANGELOG"]
    assert list(groups) == [group for group in GROUPS if group in groups]


def test_the_sources_of_the_site(tmp_path: Path) -> None:
    (tmp_path / "site" / "of before").mkdir(parents=True)
    main(tmp_path / "site")
    assert not (tmp_path / "site" / "of before").exists()
    home = (tmp_path / "site" / "index.md").read_text()
    assert home.startswith((REPOSITORY / "README.md").read_text())
    for page in (*PAGES[1:], *(Path(f"reference/{name}") for name in REFERENCE)):
        name = name_of(page) if page.is_absolute() else str(page)
        assert f"\n{name.removesuffix('.md')}\n" in home


def test_every_package_has_modules_in_the_reference() -> None:
    packages = {path.parent for path in (REPOSITORY / "video_snl").rglob("__init__.py")}
    expected = {".".join(path.relative_to(REPOSITORY).parts) for path in packages}
    shown = [module for _, modules in REFERENCE.values() for module in modules]
    assert len(set(shown)) == len(shown)
    expected.remove("video_snl.cli")  # its options stand on the commands' pages
    assert expected - {module.rpartition(".")[0] for module in shown} == set()
    assert all(find_spec(module) for module in shown)


def test_the_commands_options_are_those_of_their_parsers() -> None:
    pages = command_pages()
    for command in ("train", "evaluate", "predict", "describe", "check", "prepare"):
        assert f"\n## video-snl {command}\n" in pages["video-snl"]
    assert "\n`` --model.block {none,nl," in pages["video-snl"]
    assert ": Frames of a clip. (whole number; default: 4)\n" in pages["video-snl"]
    assert "\n## video-snl train, of networks of images\n" in pages["video-snl"]
    assert (
        "\n## reid search\n" in pages["reid"]
        and "\n`` --gallery FILE|GALLERY ``\n" in pages["reid"]
    )
    # A command's own default folder would be that of whoever built the site.
    assert not fnmatch("".join(pages.values()), f"*{Path.home()}/*")
