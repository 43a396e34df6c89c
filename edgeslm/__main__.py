"""``python -m edgeslm``: the command line, also where its script is not on the path."""

import sys

from edgeslm.cli import main

sys.exit(main())
