"""``python -m blobnet``: the command line without its installed script."""

import sys

from blobnet.cli import main

sys.exit(main())
