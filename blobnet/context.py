"""What a layer may know of the net around it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blobnet.streams import Stream, new_seed
from blobnet.zoo import datasets


@dataclass(frozen=True)
class Context:
    """Phase, number type, seed and place of the net that a layer is built for."""

    phase: int
    dtype: np.dtype = np.dtype(np.float32)
    seed: int = field(default_factory=new_seed)
    folder: Path | None = None  # of the prototxt; files it names are looked up here when the working folder has none
    allowed_modules: frozenset[str] = frozenset()  # Python layers may come from these modules only

    def stream(self, name: str) -> Stream:
        return Stream(self.seed, name)

    def find(self, path: str) -> Path:
        """The file or folder a prototxt names: relative to the working folder, else to the prototxt's.

        Where neither has it, the zoo is asked for a database or file of that name.
        """
        named = Path(path)
        if named.exists():
            return named
        if self.folder is not None and (self.folder / named).exists():
            return self.folder / named
        return datasets.find(named.name) or named
