"""Libraries that only some tools need; setup.cfg lists them as extras."""

import importlib
from types import ModuleType

from blobnet.errors import BlobnetError


def load(module: str, extra: str) -> ModuleType:
    """Import a module that comes with an extra; where it is missing, the error says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise BlobnetError(f'{library} is needed and not installed: pip install "blobnet[{extra}]"') from error
