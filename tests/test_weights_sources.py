"""Files and URLs of weights: what is not a file of weights, what cannot be fetched."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from video_snl.errors import UserError
from video_snl.models.weights.sources import locate, read_checkpoint


def save(content: object, folder: Path, name: str = "weights.pth") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


# ---- files that are not weights ----------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_files() -> list[bytes]:
    """A small checkpoint in torch.save's two formats."""
    content = {"epoch": 1, "state_dict": {f"layer{i}.weight": torch.ones(4) for i in range(9)}}
    files = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        files.append(buffer.getvalue())
    return files


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(zipped=st.booleans(), keep=st.floats(0, 1), damage=st.binary(max_size=4), at=st.integers(0))
def test_damaged_files_are_refused_in_words(
    tmp_path, whole_files, zipped: bool, keep: float, damage: bytes, at: int
) -> None:
    whole = bytearray(whole_files[0 if zipped else 1])
    start = at % len(whole)
    whole[start : start + len(damage)] = damage
    path = tmp_path / "damaged.pth"
    path.write_bytes(whole[: int(keep * (len(whole) - 1))])
    try:
        read_checkpoint(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)  # noqa: PT017
    else:
        # The last bytes of the older format are the last tensor's: cut or changed, it may load.
        assert not zipped


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", b"RIFF\0\0\0\0AVI LIST"])
def test_other_files_are_refused(tmp_path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"cannot be read.*\({len(content)} bytes"):
        read_checkpoint(path)


class _Code:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(tmp_path, zipped: bool) -> None:
    content = {"state_dict": {"a": torch.zeros(1)}, "x": _Code(tmp_path / "executed")}
    path = tmp_path / "code.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"run code to be read \(\S*mkdir\)"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_a_tensor_alone_is_no_checkpoint(tmp_path) -> None:
    source = save(torch.zeros(3), tmp_path)
    with pytest.raises(UserError, match="hold a Tensor"):
        read_checkpoint(Path(source))


def test_a_missing_file_and_a_folder(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no such file.*r3d50_K_200ep\.pth.*kenshohara"):
        locate(str(tmp_path / "none.pth"), "i3d_r50")
    with pytest.raises(UserError, match="is a folder"):
        locate(str(tmp_path), "i3d_r50")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path) -> None:
    path = Path(save({}, tmp_path))
    path.chmod(stat.S_IWUSR)
    with pytest.raises(UserError, match="may not be read"):
        read_checkpoint(path)
