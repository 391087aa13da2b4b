"""``python -m fastrl`` is the command line."""

import sys

from fastrl.cli import main

sys.exit(main())
