"""Memory, counted before it is taken: a net that asks for more than there is gets refused while it is built.

``Layer.add_blob``, data layers and ``Net`` charge what each layer is about to hold. Memory itself is taken later, when
a blob is first used, but for that of weights, which are filled at once: in a training, these are charged with their
gradients and history. ``solvers.memory`` counts what else the passes of a training take.
"""

from blobnet import config

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class Budget:
    """What the layers of one net hold, in bytes, under ``config.max_memory``.

    weight_copies  arrays of the size of each learnable blob: 1, in a training those of gradient and history besides
    """

    def __init__(self, weight_copies: int = 1) -> None:
        self.weight_copies = weight_copies
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
