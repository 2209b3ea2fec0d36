"""What several commands have: options, and the way from them to what is done. Without torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from video_snl.config.options import option, option_group, options_of
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["GalleryMetric", "Threshold", "running"]


@option_group
class GalleryMetric:
    """Comparison of features with those of a gallery.

    Args:
        metric: Distance between features. Default: that which a gallery of reid gallery was created
            with; of a feature file cosine.
    """

    metric: Literal["cosine", "euclidean"] | None = None


@option_group
class Threshold:
    """Decision on who is not in a gallery.

    Args:
        threshold: Distance up to which a tracklet is taken for the person of the nearest entry;
            where the nearest is further, the person is unknown: not in the gallery. Default none.
        calibrate: Take the threshold of this file of reid calibrate, of the same network; default
            none.
    """

    threshold: float | None = None
    calibrate: str | None = option(metavar="FILE")


def running(
    kind: type, path: str, check: Callable[[Any], None] = lambda options: None
) -> Callable[[Namespace], int]:
    """Make the function that runs a command: another function is given its options.

    Args:
        kind: Options of the command.
        path: Dotted path of a function from them to the exit code, imported when it is run.
        check: Refuses bad options before that, since the import may load torch.
    """
    module, _, name = path.rpartition(".")

    def run(arguments: Namespace) -> int:
        options: Any = options_of(kind, arguments)
        check(options)
        with quick_imports():
            command: Callable[[Any], int] = getattr(import_module(module), name)
        return command(options)

    return run
