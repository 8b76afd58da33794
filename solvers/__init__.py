"""The optimisers: the training loop, the learning-rate policies and one module per update rule."""

if __name__ != "blobnet.solvers":
    raise ImportError("import blobnet.solvers, not solvers: a second copy of every class would be made")
