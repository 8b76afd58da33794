"""What a layer may know of the net around it: how it is built, what it may hold and which files it may touch."""

import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blobnet.budget import Budget
from blobnet.errors import BlobnetError
from blobnet.streams import Stream, new_seed
from blobnet.zoo import datasets

ANY_MODULE = "*"  # among the allowed modules: every module may run


@dataclass(frozen=True)
class Context:
    """Phase, number type, seed and place of the net that a layer is built for."""

    phase: int
    dtype: np.dtype = np.dtype(np.float32)
    seed: int = field(default_factory=new_seed)
    folder: Path | None = None  # of the prototxt; files it names are looked up here when the working folder has none
    allowed_modules: frozenset[str] = frozenset()  # Python layers may come from these modules only
    untrusted: bool = False  # files outside ``folder``, and code, are refused
    budget: Budget = field(default_factory=Budget)

    def stream(self, name: str) -> Stream:
        return Stream(self.seed, name)

    def allows(self, module: str) -> bool:
        """Whether the code of a module may run."""
        return not self.allowed_modules.isdisjoint((module, ANY_MODULE))

    def find(self, path: str) -> Path:
        """The file or folder a prototxt names, which must be there; looked up as ``place`` does."""
        found = self.place(path)
        if not found.exists():
            raise BlobnetError(f"cannot read: No such file or directory{self._searched(path)}", file=path)
        return found

    def _searched(self, path: str) -> str:
        if Path(path).is_absolute():
            return ""
        folders = [f"in the working folder {Path.cwd()}"]
        if self.folder is not None and self.folder.resolve() != Path.cwd():
            folders.append(f"in the prototxt's, {self.folder.resolve()}")
        return f" {' or '.join(folders)}"

    def place(self, path: str) -> Path:
        """The file or folder a prototxt names: relative to the working folder, else to the prototxt's.

        Where neither has it, the zoo is asked for a database or file of that name; else it is the name as it stands.
        A net that is not trusted finds regular files and folders within the prototxt's folder only.
        """
        named = Path(path)
        try:
            if named.exists():
                return self._permit(named)
            if self.folder is not None and (self.folder / named).exists():
                return self._permit(self.folder / named)
        except (OSError, ValueError) as error:
            raise BlobnetError(f"is no file name: {error}", file=ascii(path)) from error
        return datasets.find(named.name) or self._permit(named)

    def permit_writing(self, path: str | Path) -> Path:
        """A path to write to, as given; refused where a net that is not trusted leaves its folder with it."""
        return self._permit(Path(path))

    def _permit(self, path: Path) -> Path:
        if not self.untrusted:
            return path
        root = (self.folder or Path()).resolve()
        for part in (path, *(path.iterdir() if path.is_dir() else ())):
            resolved = part.resolve()
            if not resolved.is_relative_to(root):
                text = f"lies outside the folder of the net, {root}, which an untrusted net must not leave"
                raise BlobnetError(text, file=str(part))
            if resolved.exists() and stat.S_IFMT(resolved.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                raise BlobnetError(
                    "is neither a file nor a folder, which an untrusted net must not touch", file=str(part)
                )
        return path
