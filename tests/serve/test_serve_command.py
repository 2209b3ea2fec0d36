"""``video-snl serve`` and what its page answers, without a browser."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.served import FOLDER, Served, form
from tests.tiny import only_run, run_here
from tests.tiny_images import image_options
from tests.videos import write_video
from video_snl.cli.main import main


def message(served: Served, *files: Path) -> str:
    """An upload that cannot be answered is explained; nothing of it may be left."""
    status, lines = served.ask(*files)
    assert (status, lines[-1]["state"]) == (200, "failed")
    assert "\n" not in lines[-1]["message"] and str(served.temporary) not in lines[-1]["message"]
    assert served.uploads() == []
    return lines[-1]["message"]


def test_the_classes_are_those_of_predict(served: Served, video_run: Path, sample: Path) -> None:
    status, lines = served.ask(sample)
    assert status == 200 and lines[0] == {"state": "waiting", "ahead": 0}
    words = ["predict", str(sample), "--checkpoint", str(video_run), "--clips", "2", "--json"]
    [expected] = json.loads(run_here(*words, "--accelerator", "cpu").stdout)
    found = [{"class": name, "score": round(score, 6)} for name, score in lines[-1]["classes"]]
    assert found == expected["predictions"]
    [page] = lines[-1]["pages"]
    assert sample.name in page["html"] and "http" not in page["html"].replace("http-equiv", "")
    assert served.uploads() == []


def _text(path: Path) -> Path:
    path.write_text("This is no video.\n")
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _playlist(path: Path) -> Path:
    path.write_text("#EXTM3U\n#EXTINF:1,\n/etc/hostname\n")
    return path


def _cut(path: Path) -> Path:
    whole = write_video(path.with_name("whole.mp4")).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _image(path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    return path


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("text.mp4", _text, "is not a readable video"),
        ("no name.avi", _empty, "is empty"),
        ("list.mp4", _playlist, "is a playlist"),
        ("cut.mp4", _cut, "cut.mp4"),
        ("picture.avi", _image, "picture.avi"),
        ("short.avi", lambda path: write_video(path, frames=2), "short.avi"),
        ("long.avi", lambda path: write_video(path, frames=800, size=(16, 16)), "is 32.0 s long"),
    ],
    ids=["text", "empty", "playlist", "cut", "image", "short", "long"],
)
def test_broken_uploads_get_a_message(
    served: Served, tmp_path: Path, name: str, make: Callable[[Path], Path], says: str
) -> None:
    said = message(served, make(tmp_path / name))
    assert says in said and said.startswith(name.replace(" ", "_"))


def test_several_videos_are_refused(served: Served, sample: Path) -> None:
    assert message(served, sample, sample) == "2 files were uploaded: choose one video"


def test_names_do_no_harm(served: Served, tmp_path: Path) -> None:
    boundary, body = form(_text(tmp_path / "x.mp4"))
    kind = f"multipart/form-data; boundary={boundary}"
    for name, shown in [("../../up.mp4", "up.mp4"), ("<b>.mp4", "_b_.mp4"), ("..", "upload")]:
        harmful = body.replace(b'"x.mp4"', f'"{name}"'.encode())
        _, lines = served.post(harmful, **{"Content-Type": kind})
        assert lines[-1]["message"].startswith(f"{shown} ")
    assert served.uploads() == []


def test_too_large_an_upload_is_refused(served: Served, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(2_000_001))
    far_larger = tmp_path / "larger.mp4"
    far_larger.write_bytes(bytes(5_000_000))
    for file in (large, far_larger):
        status, [line] = served.ask(file)
        assert status == 413 and "larger than the 2 MB that are allowed" in line["message"]
    assert served.uploads() == []


def test_an_upload_that_does_not_say_how_large_it_is(served: Served) -> None:
    connection = served.connect()
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Transfer-Encoding": "chunked"}
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.mp4"\r\n\r\n'
    chunks = iter([head, *[bytes(100_000)] * 50, b"\r\n--b--\r\n"])
    connection.request("POST", "/ask", chunks, headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413 and b"larger than the 2 MB" in response.read()
    connection.close()
    assert served.uploads() == []


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", "text/plain", "no file was uploaded"),
        (b"garbage", "multipart/form-data; boundary=b", "the upload is damaged"),
        (b"", "multipart/form-data", "the upload is damaged"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", "no file was uploaded"),
    ],
)
def test_what_is_no_upload(served: Served, body: bytes, kind: str, says: str) -> None:
    status, [line] = served.post(body, **{"Content-Type": kind})
    assert status == 400 and says in line["message"]
    assert served.uploads() == []


def test_pages_of_others_are_refused(served: Served, sample: Path) -> None:
    assert served.ask(sample, Origin="http://elsewhere.example")[0] == 403
    assert served.ask(sample, Origin="null")[0] == 403
    assert served.ask(sample, Origin=served.address)[0] == 200
    for host, status in [("elsewhere.example", 400), ("localhost", 200)]:
        connection = served.connect()
        connection.request("GET", "/", headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()


def test_the_others_wait_for_their_turn(served: Served, sample: Path) -> None:
    answers: list[list[dict[str, object]]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(served.ask(sample)[1])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [lines[-1]["state"] for lines in answers] == ["answered"] * 3
    assert max(line.get("ahead", 0) for lines in answers for line in lines) == 2
    assert served.uploads() == []


def test_uploads_are_for_the_user_of_the_server_alone(served: Served) -> None:
    [folder] = served.temporary.glob(FOLDER)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.slow
def test_signals_end_it_in_order(
    video_run: Path, sample: Path, tmp_path: Path, number: int, code: int
) -> None:
    """Signals come with an upload that is worked on, and another that is still being received."""
    page = Served.start(tmp_path / "temporary", "--checkpoint", str(video_run))
    boundary, body = form(sample)
    half, whole = page.connect(), page.connect()
    for connection, sent in ((half, len(body) // 2), (whole, len(body))):
        connection.putrequest("POST", "/ask")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:sent])
    answer = whole.getresponse()
    assert json.loads(answer.readline()) == {"state": "waiting", "ahead": 0}
    assert len(page.uploads()) == 2
    assert page.stop(number) == code
    assert "Traceback" not in page.errors
    assert not list((tmp_path / "temporary").glob(FOLDER))
    half.close()
    whole.close()


def test_a_port_that_is_taken(served: Served, video_run: Path) -> None:
    port = served.address.rsplit(":", 1)[1]
    done = run_here("serve", "--checkpoint", str(video_run), "--port", port)
    assert done.returncode == 2 and f"--port {port} cannot be had" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("port", "70000"), ("max_size", "0"), ("max_seconds", "0"), ("deadline", "0")],
)
def test_options_out_of_their_range(video_run: Path, option: str, value: str) -> None:
    done = run_here("serve", "--checkpoint", str(video_run), f"--{option}", value)
    assert done.returncode == 2 and f"--{option} {value}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_packages_that_are_missing(video_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "video_snl.utils.extras.find_spec",
        lambda name: None if name == "uvicorn" else find_spec(name),
    )
    done = run_here("serve", "--checkpoint", str(video_run))
    assert done.returncode == 2
    assert done.stderr == (
        "video-snl serve: error: needs packages that are not installed (uvicorn): "
        "pip install 'video-snl[serve]'\n"
    )


@pytest.mark.slow
def test_another_host_comes_with_a_warning(video_run: Path, tmp_path: Path) -> None:
    page = Served.start(tmp_path / "temporary", "--checkpoint", str(video_run), "--host", "0.0.0.0")
    assert "without a password" in page.errors
    assert page.stop() == 143


@pytest.mark.slow
def test_a_network_of_pictures(tmp_path: Path) -> None:
    options = image_options(tmp_path / "runs", optimizer__epochs=1, model__block="snl")
    assert main(["train", *options]) == 0
    run = only_run(tmp_path / "runs")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    page = Served.start(tmp_path / "temporary", "--checkpoint", str(run))
    _, lines = page.ask(tmp_path / "digit.png")
    words = ["predict", str(tmp_path / "digit.png"), "--checkpoint", str(run), "--json"]
    [expected] = json.loads(run_here(*words, "--accelerator", "cpu").stdout)
    found = [{"class": name, "score": round(score, 6)} for name, score in lines[-1]["classes"]]
    assert found == expected["predictions"]
    assert "digit.png" in lines[-1]["pages"][0]["html"]
    assert "cannot be read" in message(page, _text(tmp_path / "text.png"))
    assert page.stop() == 143
