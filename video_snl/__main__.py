"""``python -m video_snl`` is the command ``video-snl``."""

import sys

from video_snl.cli.main import main

sys.exit(main())
