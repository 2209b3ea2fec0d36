"""An explorer page in a real browser: what a person does on it and what is to be seen."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Locator, Page

from video_snl.analysis.explain.page import palette
from video_snl.analysis.explain.structure import Grid, box_of

LOCAL = ("file:", "data:")


def colours(name: str) -> np.ndarray:
    """A colour map as the page has it: (256, 3)."""
    return np.frombuffer(base64.b64decode(palette(name)), np.uint8).reshape(256, 3).astype(int)


def numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (text or "").split())


@dataclass
class Explorer:
    """Opened page.

    Attributes:
        problems: Errors, console messages and requests.
        frames: Numbers of frames of the panels that were asked for.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    frames: dict[int, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls, browser: Browser, path: Path, *, width: int = 1280, touch: bool = False
    ) -> Explorer:
        context = browser.new_context(viewport={"width": width, "height": 900}, has_touch=touch)
        explorer = cls(context.new_page())
        page, problems = explorer.page, explorer.problems
        page.set_default_timeout(60_000)
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda r: None if r.url.startswith(LOCAL) else problems.append(r.url))
        page.goto(path.as_uri())
        return explorer

    def panel(self, number: int = 0) -> Locator:
        return self.page.locator(".panel").nth(number)

    def choose(self, name: str, value: str) -> None:
        """Click one of the buttons by its text, as the radio button itself is not drawn."""
        self.page.locator(f"label:has(input[name='{name}'][value='{value}']) span").click()

    def point_in(self, place: Grid, grid: Grid, *, panel: int = 0) -> tuple[float, float]:
        """Return the middle of a position on the screen, in the first of its frames."""
        if panel not in self.frames:
            self.frames[panel] = self.panel(panel).locator(".frame").count()
        box = box_of(place, grid, (self.frames[panel], 1000, 1000))
        # In one question to the page: clicks are most of what the tests do.
        script = """([panel, frame]) => {
            const shown = document.querySelectorAll(".panel")[panel].querySelectorAll(".frame");
            const image = shown[frame].querySelector(".picture");
            image.scrollIntoView({ behavior: "instant", block: "nearest", inline: "nearest" });
            const rect = image.getBoundingClientRect();
            return [rect.x, rect.y, rect.width, rect.height];
        }"""
        left, top, width, height = self.page.evaluate(script, [panel, box.start])
        x, y = (box.left + box.right) / 2000, (box.top + box.bottom) / 2000
        return left + x * width, top + y * height

    def click(self, place: Grid, grid: Grid, *, panel: int = 0) -> None:
        self.page.mouse.click(*self.point_in(place, grid, panel=panel))

    def value_under_pointer(self, place: Grid, grid: Grid, *, panel: int = 0) -> float:
        self.page.mouse.move(*self.point_in(place, grid, panel=panel))
        pointer = self.panel(panel).locator(".pointer")
        assert numbers(pointer.get_attribute("data-place")) == place
        return float(pointer.get_attribute("data-value") or "nan")

    def values(self, grid: Grid, *, panel: int = 0, every: int = 1) -> np.ndarray:
        """Return the page's text under the pointer at every so many positions, in their order."""
        places = list(np.ndindex(*grid))[::every]
        return np.array([self.value_under_pointer(p, grid, panel=panel) for p in places])

    def selected(self, panel: int = 0) -> tuple[int, ...]:
        return numbers(self.panel(panel).locator(".readout").get_attribute("data-place"))

    def readout(self, name: str, panel: int = 0) -> str | None:
        return self.panel(panel).locator(".readout").get_attribute(f"data-{name}")

    def said(self, part: str, panel: int = 0) -> str:
        return self.panel(panel).locator(f".{part}").inner_text()

    def ends(self, panel: int = 0) -> tuple[float, float]:
        """The smallest and the largest number of the colour bar."""
        low, high = (self.panel(panel).locator(f".{name}") for name in ("low", "high"))
        return tuple(float(tick.get_attribute("data-value") or "nan") for tick in (low, high))

    def pixels(self, frame: int) -> np.ndarray:
        """Return the pixels drawn over a frame: (height, width, 4), red, green, blue and alpha."""
        canvas = self.panel().locator(".picture canvas").nth(frame)
        script = """(canvas) => {
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d",
                { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
            const letters = Array.from(data, (value) => String.fromCharCode(value));
            return [canvas.height, canvas.width, btoa(letters.join(""))];
        }"""
        height, width, drawn = canvas.evaluate(script)
        return np.frombuffer(base64.b64decode(drawn), np.uint8).reshape(height, width, 4)

    def colour(self, place: Grid, grid: Grid, frame: int) -> np.ndarray:
        """The colour drawn over the middle of a position in a frame."""
        drawn = self.pixels(frame)
        height, width = drawn.shape[:2]
        row, column = (place[1] + 0.5) / grid[1], (place[2] + 0.5) / grid[2]
        return drawn[int(row * height), int(column * width)].astype(int)

    def visible_boxes(self, name: str, panel: int = 0) -> list[int]:
        """The frames in which a box (``selected``, ``strongest``) is drawn."""
        boxes = self.panel(panel).locator(f".picture .{name}")
        return [frame for frame in range(boxes.count()) if boxes.nth(frame).is_visible()]

    def overflowing(self) -> list[str]:
        """Elements that stick out of the window, and texts cut off by their own box."""
        script = """() => [...document.querySelectorAll("body *")].filter((element) => {
            const box = element.getBoundingClientRect();
            if (!box.width || element.matches("input, option, script, noscript")) return false;
            const cut = element.scrollWidth > element.clientWidth + 1
                && getComputedStyle(element).overflowX !== "visible";
            return box.right > innerWidth + 0.5 || box.left < -0.5 || cut;
        }).map((element) => element.outerHTML.slice(0, 80))"""
        sticking = self.page.evaluate(script)
        wide, window = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        return sticking + ([f"body: {wide} of {window} pixels"] if wide > window else [])
