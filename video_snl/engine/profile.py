"""Where the time of an epoch's loading went, as figures and in words."""

from __future__ import annotations

from typing import Any, Protocol

from video_snl.utils.timing import STAGES

__all__ = ["Profile", "loading_row", "loading_text", "waiting_share"]


class Profile(Protocol):
    """What a loader says about its last epoch; see ``LoaderProfile``."""

    clips: int
    seconds: float
    waited: float
    stages: dict[str, float]
    replaced: int


def waiting_share(profile: Profile) -> float:
    """The share of the time from the first request to the last batch that was spent waiting."""
    return profile.waited / profile.seconds if profile.seconds > 0 else 0.0


def loading_row(profile: Profile) -> dict[str, float]:
    """The figures of an epoch's row in ``metrics.csv``; seconds, but for the first three."""
    return {
        "loading/clips": float(profile.clips),
        "loading/clips_per_second": profile.clips / max(profile.seconds, 1e-9),
        "loading/wait_share": waiting_share(profile),
        "loading/wait": profile.waited,
        **{f"loading/{name}": profile.stages[name] for name in STAGES},
    }


def loading_text(profile: Profile, samples: str = "clips") -> str:
    """The line that ``--profile`` prints."""
    stages = "  ".join(f"{name} {profile.stages[name]:.2f}" for name in STAGES)
    values: dict[str, Any] = loading_row(profile)
    text = (
        f"  loading: {profile.clips} {samples}, "
        f"{values['loading/clips_per_second']:.1f} {samples}/s; "
        f"waited {profile.waited:.2f} s of {profile.seconds:.2f} ({waiting_share(profile):.0%}); "
        f"seconds: {stages}"
    )
    return f"{text}; {profile.replaced} workers replaced" if profile.replaced else text
