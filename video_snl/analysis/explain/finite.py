"""Values that are not finite are refused, before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from video_snl.analysis.explain.structure import Explanation
from video_snl.errors import UserError

__all__ = ["check_explanations", "check_finite"]


def check_finite(name: str, values: np.ndarray, done: str = "shown") -> None:
    """Whether all values are finite.

    Args:
        name: What they are, for the message.
        done: What they are for: they cannot be ``shown``, ``measured``.

    Raises:
        UserError: Some are not; it says how many.
    """
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise UserError(
            f"{wrong} of the {values.size} values of {name} are not finite and cannot be {done}: "
            "the network overflows on this input; try another checkpoint."
        )


def check_explanations(explanations: Sequence[Explanation]) -> None:
    """Whether all that is written of some networks is finite.

    Raises:
        UserError: Something is not; it says what.
    """
    for explanation in explanations:
        for block in explanation.blocks:
            for kind, values in block.maps.items():
                check_finite(f"{kind} of {block.title}", values)
            check_finite(f"the features before {block.title}", block.before)
            check_finite(f"the features after {block.title}", block.after)
        if explanation.gradcam is not None:
            check_finite("Grad-CAM", explanation.gradcam)
        check_finite("the scores", np.array([score for _, score in explanation.classes]))
