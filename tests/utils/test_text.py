"""Labels, lists in other encodings, and names in messages."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from video_snl.errors import UserError
from video_snl.render.video import captions_of
from video_snl.utils.text import clean_label, printable, read_text, same_labels


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_lists_in_unicode(tmp_path: Path, encoding: str) -> None:
    text = "1 Fußball\r\n2 Épée\n"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / "a.txt").write_bytes((mark + text).encode(encoding))
    assert read_text(tmp_path / "a.txt") == text


def test_lists_in_latin_1(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("1 Bow\n2 Fußball\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 2: .*UTF-8.*0xdf.*iconv"):
        read_text(tmp_path / "a.txt")


def test_labels() -> None:
    assert clean_label(" Lunges\t") == "Lunges"
    nfd = unicodedata.normalize("NFD", "Épée")
    assert clean_label(nfd) == unicodedata.normalize("NFC", nfd) != nfd
    assert clean_label("caf\udce9").isprintable()
    assert same_labels(["a ", nfd], ["a", clean_label(nfd)])
    assert not same_labels(["a", "b"], ["b", "a"])
    for wrong in ("a\nb", "a\0b", "a\u2028b", "  "):
        with pytest.raises(UserError) as caught:
            clean_label(wrong)
        assert len(str(caught.value).splitlines()) == 1


def test_names_in_messages_are_one_short_line() -> None:
    assert printable("a\nb\udce9") == "a\\nb\\udce9"
    assert len(printable("x" * 10_000)) < 210


def test_captions_of_checkpoints_with_a_line_break_in_a_class() -> None:
    result = {"predictions": [{"class": "a\nb", "score": 0.5}]}
    [caption] = captions_of(result)
    assert [line.name for line in caption.lines] == ["a\\nb"]
