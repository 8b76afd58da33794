"""``python -m blobnet.zoo.generators [NAME ...]``."""

import sys

from blobnet.errors import BlobnetError
from blobnet.zoo import generators

try:
    for name in sys.argv[1:] or generators.MODELS:
        print(*generators.write(name), sep="\n")
except (BlobnetError, OSError) as error:
    sys.exit(f"error: {error}")
