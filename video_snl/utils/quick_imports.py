"""A shorter start of commands: torch and Lightning imported without needless work.

Two things take half the time of these imports. Each collection of garbage looks at all objects that
the imports have made, and finds next to nothing. And torchmetrics, which Lightning imports, imports
scipy.signal, matplotlib.pyplot and torchvision for metrics and plots that no command uses; where
these packages are not installed, it does without them.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

__all__ = ["import_quickly"]

_UNUSED = ("matplotlib", "scipy", "torchvision")


def import_quickly() -> None:
    """Let this process, once it imports torch and Lightning, do so without garbage collections.

    Its torchmetrics finds no package that only unused metrics need, so metrics and plots that need
    one are missing in it. The modules are never collected. So this is for a process that runs one
    command, not for a session in Python.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]


@contextmanager
def _uncollected() -> Iterator[None]:
    if not gc.isenabled():  # inside another one of these, say
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # else the next collection looks at all of it
        gc.enable()
        atexit.register(gc.unfreeze)  # else extension modules complain of leaks at the end


@contextmanager
def _without_unused() -> Iterator[None]:
    """Let packages seem not installed, to imports and to importlib.metadata."""
    from importlib.metadata import Distribution, PackageNotFoundError

    names = [name for name in _UNUSED if name not in sys.modules]
    kept, find = vars(Distribution)["from_name"], Distribution.from_name

    def find_others(name: str) -> Distribution:
        if name in names:
            raise PackageNotFoundError(name)
        return find(name)

    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    Distribution.from_name = find_others  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Distribution.from_name = kept  # type: ignore[method-assign]
        for name in names:
            del sys.modules[name]


_AROUND: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "torch": _uncollected,
    "lightning": _uncollected,
    "torchmetrics": _without_unused,
}
"""What to do around the import of a package."""


class _Finder:
    """Finder that leaves the search to the others, and wraps the loaders of some packages."""

    def __init__(self) -> None:
        self._searched: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _AROUND or fullname in self._searched:
            return None
        self._searched.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self._searched.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _AROUND[fullname])  # type: ignore[assignment]
        return spec


class _Loader:
    """Loader of a package that another one loads within a context."""

    def __init__(self, loader: Loader, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._loader, self._around = loader, around

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader  # the package is to look as always
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with self._around():
            self._loader.exec_module(module)
