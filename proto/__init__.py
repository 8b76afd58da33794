"""The wire format: generated messages and text parsing with line numbers. Imported as ``blobnet.proto``."""

if __name__ != "blobnet.proto":
    raise ImportError("import blobnet.proto, not proto: a second copy of every class would be made")
