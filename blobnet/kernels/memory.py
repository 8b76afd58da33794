"""Memory by its address."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def flat_array(context, builder, kind: types.Array, data: ir.Value, count: ir.Value) -> ir.Value:
    """The flat array of so many elements at an address, as compiled code has it."""
    array, itemsize = context.make_array(kind)(context, builder), ir.Constant(count.type, kind.dtype.bitwidth // 8)
    array.data, array.nitems, array.itemsize = data, count, itemsize
    array.shape, array.strides = (cgutils.pack_array(builder, [extent]) for extent in (count, itemsize))
    return array._getvalue()


@intrinsic
def copy_bytes(typing, target, source, count):
    """``count`` bytes from one address to another, by the C library, which need not read what it overwrites."""

    def emit(context, builder, signature, arguments):
        memory = [builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in arguments[:2]]
        cgutils.raw_memcpy(builder, *memory, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit
