"""Where real prototxts and weights lie, and what Caffe computed from them: beside the checkout, on some machines."""

from pathlib import Path

MODELS = Path(__file__).parents[3] / "shared" / "models"
PROTOTXTS, WEIGHTS, OUTPUTS = MODELS / "prototxts", MODELS / "weights", MODELS / "outputs"
