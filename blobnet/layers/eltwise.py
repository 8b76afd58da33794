"""Layers that combine blobs element by element: Eltwise, and Scale and Bias, which repeat the smaller one."""

from typing import ClassVar

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import elements, eltwise
from blobnet.layers.base import Layer, describe
from blobnet.layers.neuron import keep
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb


@register("Eltwise")
class Eltwise(Layer):
    """The sum, product or maximum of two or more bottoms of one shape (eltwise_param).

    operation         SUM (default): y = sum of coeff_i x_i, dx_i = coeff_i dy
                      PROD: y = product of x_i, dx_i = dy times the product of the others
                      MAX: y = max x_i, dx_i = dy where x_i is the maximum. A tie of the first two goes to the
                      second; a later one must be strictly larger
    coeff             of SUM only, one per bottom (default 1)
    stable_prod_grad  true (default): as above; false: dx_i = dy y / x_i, fewer products, wrong at 0
    """

    bottoms = (2, None)

    def setup(self, bottom, top):
        eltwise_param = self.param.eltwise_param
        coeff, count = list(eltwise_param.coeff), len(bottom)
        self.require(
            len(coeff) in (0, count),
            f"coeff must be left out or given once a bottom; got {len(coeff)} for {count} bottoms",
            "eltwise_param.coeff",
        )
        self.require(
            not coeff or eltwise_param.operation == pb.EltwiseParameter.SUM,
            "coeff goes with operation SUM only; got "
            f"operation {pb.EltwiseParameter.EltwiseOp.Name(eltwise_param.operation)}",
            "eltwise_param.coeff",
        )
        self.coefficients = [self.dtype.type(value) for value in coeff or [1] * count]

    def reshape(self, bottom, top):
        for blob in bottom[1:]:
            self.require(
                blob.shape == bottom[0].shape,
                f"bottoms must have one shape; got {describe(bottom[0])} and {describe(blob)}",
                "bottom",
            )
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        forward, _ = self._operations[self.param.eltwise_param.operation]
        forward(self, [blob.data.reshape(-1) for blob in bottom], top[0].data.reshape(-1))

    def backward(self, top, propagate_down, bottom):
        _, gradient = self._operations[self.param.eltwise_param.operation]
        inputs = [blob.data.reshape(-1) for blob in bottom]
        y, dy = top[0].data.reshape(-1), top[0].diff.reshape(-1)
        for index, blob in enumerate(bottom):
            if propagate_down[index]:
                gradient(self, index, inputs, y, dy, blob.diff.reshape(-1))

    def _sum(self, inputs, y):
        eltwise.add_up(inputs, self.coefficients, y)

    def _sum_gradient(self, index, inputs, y, dy, dx):
        elements.run(eltwise.multiple, dx.size, dy, self.coefficients[index], dx)

    def _product(self, inputs, y):
        first, second, *others = inputs
        elements.run(eltwise.product, y.size, first, second, y)
        for x in others:
            elements.run(eltwise.product, y.size, y, x, None)

    def _product_gradient(self, index, inputs, y, dy, dx):
        if self.param.eltwise_param.stable_prod_grad:
            self._product([dy, *inputs[:index], *inputs[index + 1 :]], dx)
        else:
            elements.run(eltwise.quotient_gradient, dx.size, y, inputs[index], dy, dx)

    def _maximum(self, inputs, y):
        first, second, *others = inputs
        self._winner = np.empty(y.size, np.int32)
        elements.run(eltwise.maximum, y.size, first, second, y, self._winner)
        for index, x in enumerate(others, 2):
            elements.run(eltwise.maximum_with, y.size, x, np.int32(index), y, self._winner)

    def _maximum_gradient(self, index, inputs, y, dy, dx):
        elements.run(eltwise.maximum_gradient, dx.size, self._winner, np.int32(index), dy, dx)

    _operations: ClassVar = {
        pb.EltwiseParameter.SUM: (_sum, _sum_gradient),
        pb.EltwiseParameter.PROD: (_product, _product_gradient),
        pb.EltwiseParameter.MAX: (_maximum, _maximum_gradient),
    }


class ChannelWise(Layer):
    """Base of Scale and Bias: an operand spans some axes of the bottom and is repeated along the others.

    It is the second bottom or, where there is none, learned. From ``axis`` (default 1) on, the bottom has the
    operand's extents; a learned one spans ``num_axes`` axes (default 1; -1: all from ``axis`` on). An operand of no
    axes is one number for all. Seen as rows [outer size, P], row r belongs to entry r mod size. Works in place on
    the first bottom.
    """

    bottoms = (1, 2)
    in_place = True
    field: ClassVar[str]  # of the message with axis and num_axes

    def learn(self, bottom, filler: pb.FillerParameter) -> None:
        """Make the learned operand."""
        param = getattr(self.param, self.field)
        axis = self.axis(bottom[0], param.axis, f"{self.field}.axis")
        available = bottom[0].num_axes - axis
        self.require(
            -1 <= param.num_axes <= available,
            f"num_axes must be -1 or at most {available}, the axes of {describe(bottom[0])} from axis {axis} on; "
            f"got {param.num_axes}",
            f"{self.field}.num_axes",
        )
        count = available if param.num_axes == -1 else param.num_axes
        self.add_blob(bottom[0].shape[axis : axis + count], filler)

    def operand(self, bottom) -> Blob:
        return bottom[1] if len(bottom) == 2 else self.blobs[0]

    def reshape(self, bottom, top):
        operand, axis = self.operand(bottom), 0
        if operand.num_axes:
            axis = self.axis(bottom[0], getattr(self.param, self.field).axis, f"{self.field}.axis")
        end = axis + operand.num_axes
        self.require(
            bottom[0].shape[axis:end] == operand.shape,
            f"from axis {axis} on, {describe(bottom[0])} must have the extents of {describe(operand)}",
            f"{self.field}.axis",
        )
        self._rows = (bottom[0].count_between(0, end), bottom[0].count_between(end))
        top[0].reshape_like(bottom[0])

    def apply(self, x: np.ndarray, factor: np.ndarray, shift: np.ndarray, y: np.ndarray | None) -> None:
        """y = factor x + shift; y None: in place."""
        factor, shift = factor.reshape(-1), shift.reshape(-1)
        if self._rows[1] == 1:
            y = x if y is None else y
            table = y.reshape(-1, factor.size)
            np.multiply(x.reshape(table.shape), factor, out=table)
            table += shift
        else:
            y = None if y is None else y.reshape(self._rows)
            elements.run_rows(eltwise.scale, *self._rows, x.reshape(self._rows), factor, shift, y)

    def sum_products(self, *arrays: np.ndarray, like: Blob) -> np.ndarray:
        """For each entry of an operand: the sum, over all that shares it, of one array or of the product of two."""
        if self._rows[1] == 1:
            sums = arrays[0] if len(arrays) == 1 else np.multiply(*arrays)
        else:
            sums = np.empty(self._rows[0])
            kernel = eltwise.row_sums if len(arrays) == 1 else eltwise.row_products
            elements.run_rows(kernel, *self._rows, *(array.reshape(self._rows) for array in arrays), sums)
        return sums.reshape(-1, like.count).sum(axis=0, dtype=np.float64).reshape(like.shape)

    def differentiate_operand(self, bottom, propagate_down, *arrays: np.ndarray) -> None:
        """Overwrite the diff of a second bottom, or add to that of a learned operand, where it is wanted."""
        operand = self.operand(bottom)
        if len(bottom) == 2 and propagate_down[1]:
            operand.diff[...] = self.sum_products(*arrays, like=operand)
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            operand.add_to_diff(self.sum_products(*arrays, like=operand))


@register("Bias")
class Bias(ChannelWise):
    """y = x + b, b the second bottom or learned; dx = dy, db = the sum of dy over what shares an entry of b.

    bias_param: ``axis``, ``num_axes`` (see ChannelWise); ``filler`` of b (default: constant 0).
    """

    field = "bias_param"

    def setup(self, bottom, top):
        if len(bottom) == 1:
            self.learn(bottom, self.param.bias_param.filler)

    def forward(self, bottom, top):
        bias = self.operand(bottom).data
        self.apply(bottom[0].data, np.ones_like(bias), bias, None if top[0] is bottom[0] else top[0].data)

    def backward(self, top, propagate_down, bottom):
        self.differentiate_operand(bottom, propagate_down, top[0].diff)
        if propagate_down[0] and top[0] is not bottom[0]:
            np.copyto(bottom[0].diff, top[0].diff)


@register("Scale")
class Scale(ChannelWise):
    """y = a x (+ b), a the second bottom or learned, b learned.

    dx = a dy; da = the sum of dy x and db = the sum of dy over what shares an entry of a.

    scale_param: ``axis``, ``num_axes`` (see ChannelWise); ``filler`` of a (default: constant 1); ``bias_term``
    (default false) adds b, with its ``bias_filler`` (default: constant 0).
    """

    field = "scale_param"
    keeps_input = True
    _kept = np.empty(0)

    def setup(self, bottom, top):
        scale = self.param.scale_param
        if len(bottom) == 1:
            self.learn(bottom, scale.filler if scale.HasField("filler") else pb.FillerParameter(value=1))
        if scale.bias_term:
            self.add_blob(self.operand(bottom).shape, scale.bias_filler)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if self.param.scale_param.bias_term:
            bias, factor = self.blobs[-1], self.operand(bottom)
            self.require(
                bias.shape == factor.shape,
                f"the bias was made with shape {bias.shape}; got {describe(factor)}",
                "bottom",
            )

    def forward(self, bottom, top):
        x, y = bottom[0].data, top[0].data
        if top[0] is bottom[0]:
            x = self._kept = keep(x, self._kept)
        self.apply(x, *self.factor_and_shift(bottom), y)

    def factor_and_shift(self, bottom) -> tuple[np.ndarray, np.ndarray]:
        """The arrays a and b; b of zeros where there is none."""
        factor = self.operand(bottom).data
        return factor, self.blobs[-1].data if self.param.scale_param.bias_term else np.zeros_like(factor)

    def add_gradients(self, *gradients: np.ndarray) -> None:
        """Add to the diffs of a learned a and b, where they are wanted."""
        for blob, wanted, gradient in zip(self.blobs, self.param_propagate_down, gradients, strict=False):
            if wanted:
                total, beta = blob.gradient_sum()
                elements.run(eltwise.accumulate, total.size, gradient.reshape(-1), beta, total.reshape(-1))

    def backward(self, top, propagate_down, bottom):
        dy, in_place = top[0].diff, top[0] is bottom[0]
        x = self._kept if in_place else bottom[0].data
        self.differentiate_operand(bottom, propagate_down, x, dy)
        if self.param.scale_param.bias_term and self.param_propagate_down[-1]:
            self.blobs[-1].add_to_diff(self.sum_products(dy, like=self.blobs[-1]))
        if propagate_down[0]:
            factor = self.operand(bottom).data
            self.apply(dy, factor, np.zeros_like(factor), None if in_place else bottom[0].diff)
