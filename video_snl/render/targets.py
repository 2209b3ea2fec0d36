"""Names of rendered files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from video_snl.errors import UserError
from video_snl.utils.files import check_folder

__all__ = ["targets"]


def targets(
    named: str, sources: Sequence[Path], *, suffixes: Sequence[str], folder_only: bool = False
) -> dict[Path, Path]:
    """Choose the file to write for every source.

    One source may name its file; else ``named`` is a folder, made here, in which a file has its
    source's name with the first of the suffixes. Of sources of one name, the later ones get a
    number.

    Args:
        suffixes: Suffixes that can be written.
        folder_only: No single file can be named.

    Raises:
        UserError: A file cannot be what is asked for, would replace a source, or the folder cannot
            be made or written to.
    """
    path = Path(named)
    is_file = path.suffix.lower() in suffixes and not path.is_dir()
    if is_file and not folder_only and len(sources) == 1:
        found = {sources[0]: path}
    elif is_file:
        many = "images" if folder_only else f"{len(sources)} files"
        raise UserError(f"--render {named}: name a folder for {many}, not a file")
    elif path.suffix and not path.is_dir() and len(sources) == 1 and not folder_only:
        raise UserError(
            f"--render {named}: give a file that ends in {', '.join(suffixes)}, or a folder that "
            "exists or has no suffix"
        )
    else:
        found = _in_folder(path, sources, suffixes[0])
    _check_writable(named, path.parent if is_file else path)
    for target in found.values():
        if any(_same(target, source) for source in sources):
            raise UserError(f"--render {named} would replace {target}: name another place")
    return found


def _in_folder(folder: Path, sources: Sequence[Path], suffix: str) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    taken: set[str] = set()
    for source in sources:
        name, number = source.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{source.stem}-{number}"
        taken.add(name.lower())
        found[source] = folder / f"{name}{suffix}"
    return found


def _check_writable(named: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--render {named} cannot be written ({reason})") from error
    check_folder("--render", str(folder))


def _same(target: Path, source: Path) -> bool:
    return target.exists() and source.exists() and target.samefile(source)
