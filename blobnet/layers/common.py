"""Layers that multiply by a full weight matrix or look one up: InnerProduct, Embed."""

import math
from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import embedding
from blobnet.kernels.gemm import gemm
from blobnet.kernels.parallel import repeated
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register


@register("InnerProduct")
class InnerProduct(Layer):
    """A fully connected layer: every output sees every input.

    x [M, K]  ->  y [M, N]; the axes from ``axis`` on are the K inputs, those before it the batch M.
    blobs: weights [N, K] ([K, N] with ``transpose``) and, unless ``bias_term`` is false, the bias [N].

    y = x W^T + b;  dx = dy W,  dW += dy^T x,  db += column sums of dy

    inner_product_param (proto defaults in parentheses)
        num_output, axis (1), transpose (false), bias_term (true), weight_filler, bias_filler
    Source: Caffe, inner_product_layer.cpp.
    """

    steady = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.inner_product_param
        self.num_output = param.num_output
        self.require(self.num_output > 0, "num_output must be given and positive", "inner_product_param.num_output")
        self.input_axis = self.axis(bottom[0], param.axis, "inner_product_param.axis")
        self.inputs = bottom[0].count_between(self.input_axis)
        self.require(self.inputs > 0, f"{describe(bottom[0])} is empty")
        shape = (self.inputs, self.num_output) if param.transpose else (self.num_output, self.inputs)
        self.add_blob(shape, param.weight_filler)
        if param.bias_term:
            self.add_blob((self.num_output,), param.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        self.require(bottom[0].count > 0, f"{describe(bottom[0])} is empty")
        self.require(
            math.prod(shape[self.input_axis :]) == self.inputs,
            f"{describe(bottom[0])} must have {self.inputs} inputs from axis {self.input_axis} on, "
            f"as when the layer was made; got {math.prod(shape[self.input_axis :])}",
        )
        top[0].reshape(*shape[: self.input_axis], self.num_output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        y = self._rows(top[0].data)
        transposed = self.param.inner_product_param.transpose
        gemm(self._rows(bottom[0].data), self.blobs[0].data, y, transpose_b=not transposed)
        if len(self.blobs) > 1:
            repeated(np.add, y, self.blobs[1].data, out=y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        dy = self._rows(top[0].diff)
        x = self._rows(bottom[0].data)
        transposed = self.param.inner_product_param.transpose
        if self.param_propagate_down[0]:
            first, second = (x, dy) if transposed else (dy, x)
            dw, beta = self.blobs[0].gradient_sum()
            gemm(first, second, dw, transpose_a=True, beta=beta)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            db, beta = self.blobs[1].gradient_sum()
            repeated(_sum_rows, dy, db, beta)
        if propagate_down[0]:
            gemm(dy, self.blobs[0].data, self._rows(bottom[0].diff), transpose_b=transposed)

    def flops(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return 2 * self.blobs[0].count * bottom[0].count_between(0, self.input_axis)

    def _rows(self, array: np.ndarray) -> np.ndarray:
        """A bottom's or top's array as [M, K] or [M, N]."""
        return array.reshape(math.prod(array.shape[: self.input_axis]), -1)


def _sum_rows(rows: np.ndarray, total: np.ndarray, beta: int) -> None:
    """total = the sum of the rows + beta total; with 0 the old total is not read."""
    total[...] = rows.sum(axis=0) + total if beta else rows.sum(axis=0)


@register("Embed")
class Embed(Layer):
    """Row look-up: each input is the index of a row of the weights.

    x [any shape], whole numbers from 0 to input_dim - 1  ->  y [that shape, num_output]
    blobs: weights [input_dim, num_output] and, unless ``bias_term`` is false, the bias [num_output].

    y[i] = W[x[i]] + b;  dW[x[i]] += dy[i],  db += sum of dy; there is no gradient for indices.

    embed_param (proto defaults in parentheses)
        num_output, input_dim, bias_term (true), weight_filler, bias_filler
    Source: Caffe, embed_layer.cpp.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.embed_param
        self.require(
            param.num_output > 0,
            f"num_output must be given and positive; got {param.num_output}",
            "embed_param.num_output",
        )
        self.require(
            param.input_dim > 0, f"input_dim must be given and positive; got {param.input_dim}", "embed_param.input_dim"
        )
        self.add_blob((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_blob((param.num_output,), param.bias_filler)

    def has_backward(self, bottom_index: int) -> bool:
        return False

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(bottom[0].count > 0, f"{describe(bottom[0])} is empty")
        top[0].reshape(*bottom[0].shape, self.param.embed_param.num_output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        np.take(self.blobs[0].data, self._indices(bottom[0]), axis=0, out=top[0].data)
        if len(self.blobs) > 1:
            top[0].data[...] += self.blobs[1].data

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.require(not propagate_down[0], f"{describe(bottom[0])} holds indices, which have no gradient")
        dy = top[0].diff.reshape(bottom[0].count, -1)
        if self.param_propagate_down[0]:
            embedding.add_rows(self._indices(bottom[0]).reshape(-1), dy, self.blobs[0].diff)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_to_diff(dy.sum(axis=0))

    def _indices(self, blob: Blob) -> np.ndarray:
        rows = self.param.embed_param.input_dim
        values = blob.data
        wrong = ~((values >= 0) & (values < rows) & (values == np.floor(values)))
        if wrong.any():
            self.fail(
                f"{describe(blob)} must hold whole numbers from 0 to input_dim - 1 = {rows - 1}; "
                f"got {values[wrong][0]:g}",
                "embed_param.input_dim",
            )
        return values.astype(np.int64)
