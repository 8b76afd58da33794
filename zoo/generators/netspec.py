"""Nets in Python: a NetParameter written layer by layer, and the prototxt of it."""

from typing import Any, NamedTuple

from google.protobuf import text_format

from blobnet.proto import blobnet_pb2 as pb

_WIDTH = 100


class Model(NamedTuple):
    """What the folder of a model holds."""

    train_val: pb.NetParameter
    deploy: pb.NetParameter
    solver: str

    def texts(self) -> dict[str, str]:
        """File name to text."""
        return {
            "train_val.prototxt": prototxt(self.train_val),
            "deploy.prototxt": prototxt(self.deploy),
            "solver.prototxt": self.solver,
        }


class NetSpec:
    """A net under construction. Every method appends a layer and returns the name of its top.

    ``defaults`` are the ``param`` messages (rates of weights and bias) and fillers of all layers with weights:
    ``{"param": [...], "weight_filler": {...}, "bias_filler": {...}}``; a call may state its own.
    """

    def __init__(self, name: str, *, training: bool, **defaults):
        self.param = pb.NetParameter(name=name)
        self.training = training
        self._defaults = defaults

    def add(self, type_name: str, name: str, *bottoms: str, top: str | None = None, **fields) -> str:
        """A layer of any type; its top has its name unless stated. ``fields`` are those of LayerParameter."""
        tops = fields.pop("tops", [top or name])
        self.param.layer.add(name=name, type=type_name, bottom=bottoms, top=tops, **fields)
        return tops[0]

    def convolution(self, name: str, bottom: str, num_output: int, kernel_size: int, **options) -> str:
        """``pad`` (0), ``stride`` (1) and other fields of ConvolutionParameter, or ``param``."""
        options |= {"num_output": num_output, "kernel_size": [kernel_size]}
        for field, default in (("pad", 0), ("stride", 1)):
            value = options.pop(field, default)
            if value != default:
                options[field] = [value]
        return self._weighted("Convolution", "convolution_param", name, bottom, options)

    def inner_product(self, name: str, bottom: str, num_output: int, **options) -> str:
        """``options`` are fields of InnerProductParameter, or ``param``."""
        options["num_output"] = num_output
        return self._weighted("InnerProduct", "inner_product_param", name, bottom, options)

    def _weighted(self, type_name: str, field: str, name: str, bottom: str, options: dict[str, Any]) -> str:
        options = {**self._defaults, **options}
        params = options.pop("param", [])
        if not options.get("bias_term", True):
            params = params[:1]
            options.pop("bias_filler", None)
        fields: dict[str, Any] = {"param": params, field: options}
        return self.add(type_name, name, bottom, **fields)

    def pool(self, name: str, bottom: str, method: str, kernel_size: int, stride: int, **options) -> str:
        pooling = {"pool": method, "kernel_size": kernel_size, "stride": stride, **options}
        return self.add("Pooling", name, bottom, pooling_param=pooling)

    def global_average(self, name: str, bottom: str) -> str:
        return self.add("Pooling", name, bottom, pooling_param={"pool": "AVE", "global_pooling": True})

    def relu(self, name: str, bottom: str) -> str:
        """In place."""
        return self.add("ReLU", name, bottom, top=bottom)

    def dropout(self, name: str, bottom: str, ratio: float) -> str:
        """In place."""
        return self.add("Dropout", name, bottom, top=bottom, dropout_param={"dropout_ratio": ratio})

    def image_input(self, batch_size: int, channels: int, size: int, transform: dict) -> str:
        """``data`` of a deploy net, with the preprocessing for ``Classifier.predict``."""
        shape = {"dim": [batch_size, channels, size, size]}
        return self.add("Input", "data", transform_param=transform, input_param={"shape": [shape]})

    def databases(self, name: str, sources: dict[str, tuple[str, int, dict]], tops: list[str]) -> str:
        """Data layers on LMDBs: phase to (source, batch size, transform_param)."""
        for phase, (source, batch_size, transform) in sources.items():
            data = {"source": source, "batch_size": batch_size, "backend": "LMDB"}
            rule = [{"phase": phase}]
            self.add("Data", name, tops=tops, include=rule, transform_param=transform, data_param=data)
        return tops[0]

    def accuracy(self, name: str, scores: str, top_k: int = 1, **fields) -> str:
        """Share of the labels among the ``top_k`` best scores, in TEST unless ``include`` says otherwise."""
        fields.setdefault("include", [{"phase": "TEST"}])
        if top_k > 1:
            fields["accuracy_param"] = {"top_k": top_k}
        return self.add("Accuracy", name, scores, "label", **fields)

    def softmax_loss(self, name: str, scores: str, **fields) -> str:
        return self.add("SoftmaxWithLoss", name, scores, "label", **fields)


def rates(*multipliers: tuple[float, float]) -> list[dict[str, float]]:
    """The ``param`` messages of (lr_mult, decay_mult), one for each blob of a layer."""
    return [{"lr_mult": rate, "decay_mult": decay} for rate, decay in multipliers]


def solver(comment: str = "", **fields) -> str:
    """The text of a solver of the train_val.prototxt beside it, its fields in the order given."""
    lines = [f"# {line}\n" for line in comment.splitlines()]
    fields = {"net": "train_val.prototxt", **fields}
    return "".join([*lines, *(prototxt(pb.SolverParameter(**{name: value})) for name, value in fields.items())])


def prototxt(message: pb.NetParameter | pb.SolverParameter) -> str:
    """The text of a message; whatever stands within a layer is on one line where it fits."""
    blocks: list[list[str]] = [[]]
    for line in text_format.MessageToString(message).splitlines():
        if line.endswith("{"):
            blocks.append([line])
        elif line.endswith("}"):
            block = [*blocks.pop(), line]
            blocks[-1] += _folded(block)
        else:
            blocks[-1].append(line.removesuffix(".0"))
    return "".join(f"{line}\n" for line in blocks[0])


def _folded(block: list[str]) -> list[str]:
    line = " ".join([block[0], *(part.strip() for part in block[1:])])
    return [line] if line.startswith(" ") and len(line) <= _WIDTH else block
