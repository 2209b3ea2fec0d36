"""A video of two people, each of one colour, and their tracks."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

SIZE = 120, 160
"""Height and width."""
FRAMES = 30
COLOURS = {1: (200, 40, 40), 2: (40, 60, 200)}
_GROUND = (120, 130, 120)


def place(person: int, frame: int) -> tuple[int, int, int, int] | None:
    """Left, top, width, height of a person; one goes right from frame 5 on, the other left."""
    if frame < 5:
        return None
    left = 10 + 2 * (frame - 5) if person == 1 else 130 - 2 * (frame - 5)
    return left, 20 if person == 1 else 70, 20, 44


def write_people(path: Path, empty: int = 0) -> Path:
    """Write a video of both people, after so many more frames without them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(-empty, FRAMES):
            image = np.full((*SIZE, 3), _GROUND, np.uint8)
            for person, colour in COLOURS.items():
                if box := place(person, number):
                    left, top, width, height = box
                    image[top : top + height, left : left + width] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def track_lines() -> list[str]:
    """Return the lines of the file of tracks, in the format of MOTChallenge."""
    return [
        f"{number + 1},{person},{','.join(map(str, box))},1,-1,-1,-1"
        for number in range(FRAMES)
        for person in COLOURS
        if (box := place(person, number))
    ]
