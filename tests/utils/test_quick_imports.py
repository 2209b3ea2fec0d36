"""Imports without collections of garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from video_snl.utils.quick_imports import quick_imports


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("collected")
def test_nothing_is_collected_meanwhile_nor_what_was_made_later() -> None:
    with pytest.raises(ModuleNotFoundError), quick_imports():
        assert not gc.isenabled()
        made = [object()]
        raise ModuleNotFoundError
    assert gc.isenabled()
    assert not any(each is made for each in gc.get_objects())


@pytest.mark.usefixtures("collected")
def test_who_has_disabled_collections_keeps_them_disabled() -> None:
    gc.disable()
    frozen = gc.get_freeze_count()
    with quick_imports():
        pass
    assert not gc.isenabled() and gc.get_freeze_count() == frozen
