"""``import video_snl.SNL3d`` binds the class, as ``from video_snl import SNL3d`` does.

The import system binds a submodule's entry in ``sys.modules`` to the package; putting the class
there keeps ``video_snl.SNL3d`` one and the same object, whichever form comes first.
"""

import sys

from video_snl.blocks.zoo import SNL3d

__all__ = ["SNL3d"]

sys.modules[__name__] = SNL3d  # type: ignore[assignment]
