"""The pass that refuses a net far beyond any real one: each layer takes time and memory, whatever its blobs hold."""

from blobnet.errors import error_at
from blobnet.proto import blobnet_pb2 as pb

MOST_LAYERS = 20_000
MOST_ENDS = 100_000  # bottoms and tops


def check_size(param: pb.NetParameter) -> None:
    """Raises BlobnetError for a net of more layers, or of more bottoms and tops, than are ever built."""
    ends = sum(len(layer.bottom) + len(layer.top) for layer in param.layer)
    for count, most, what in (
        (len(param.layer), MOST_LAYERS, "layers"),
        (ends, MOST_ENDS, "bottoms and tops"),
    ):
        if count > most:
            rule = f"a net has at most {most} {what}; got {count}"
            raise error_at(param, f"{rule}. Divide it into several nets, or let one layer do the work of many")
