"""``python -m reid`` is the command ``reid``."""

import sys

from reid.cli.main import main

sys.exit(main())
