"""``python -m reid`` is the command ``reid``."""

import sys

from reid.cli import main

sys.exit(main())
