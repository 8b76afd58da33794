"""Models to start from: prototxts, weights and one line of Python to load them."""

if __name__ != "blobnet.zoo":
    raise ImportError("import blobnet.zoo, not zoo: a second copy of every class would be made")
