"""Memory, counted before it is taken: a net that asks for more than there is gets refused while it is built.

``Layer.add_blob`` and ``Net`` charge what each layer is about to hold. Memory itself is taken later, when a blob is
first used. Counted are the data of tops and learnable blobs; gradients and the history of a solver come on top.
"""

from blobnet import config

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class Budget:
    """What the layers of one net hold, in bytes, under ``config.max_memory``."""

    def __init__(self) -> None:
        self.limit = config.max_memory()
        self.total = 0
        self._charges: dict[object, int] = {}

    def charge(self, key: object, size: int) -> str:
        """Count ``size`` bytes for a key, instead of what was counted for it before.

        Returns what is wrong, an empty string where the sum stays within the limit; a sum that does not is not kept.
        """
        total = self.total - self._charges.get(key, 0) + size
        if total > self.limit:
            return (
                f"its blobs need {shown(size)}, with those of the layers before it {shown(total)}; the limit is "
                f"{shown(self.limit)}. Make the net or its batch smaller, or set --max-memory or BLOBNET_MAX_MEMORY"
            )
        self.total, self._charges[key] = total, size
        return ""


def shown(size: int) -> str:
    """``1.5 GiB``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.4g} {_UNITS[unit]}"
