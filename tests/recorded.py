"""Where the values recorded from BVLC Caffe lie: all of them beside the checkout, or the selection kept here."""

import json
from pathlib import Path

import numpy as np

SELECTION = Path(__file__).parent / "goldens"
ALL = Path(__file__).parents[2] / "shared" / "goldens"
ROOT = ALL if ALL.is_dir() else SELECTION


def files(folder: str, pattern: str) -> list[Path]:
    """The recorded files of a folder; never none, so that a test over them cannot pass empty."""
    found = sorted((ROOT / folder).glob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {ROOT / folder}")
    return found


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def load_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def assert_close(found: np.ndarray, expected: np.ndarray, what: str, tolerance: float = 1e-5) -> None:
    """Equal shapes, NaN and infinity in the same places, and differences within tolerance of the array's maximum."""
    found = np.asarray(found)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, recorded {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite], err_msg=what)
    if finite.any():
        scale = max(float(np.abs(expected[finite]).max()), 1e-30)
        worst = float(np.abs(found[finite].astype(np.float64) - expected[finite]).max()) / scale
        assert worst <= tolerance, f"{what}: differs by {worst:.3g} of the maximum {scale:.4g}"
