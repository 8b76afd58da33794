"""``python -m blobnet``: the command line without its installed script."""

import sys

from blobnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
