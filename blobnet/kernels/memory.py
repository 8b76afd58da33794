"""Memory by its address."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def copy_bytes(typing, target, source, count):
    """``count`` bytes from one address to another, by the C library, which need not read what it overwrites."""

    def emit(context, builder, signature, arguments):
        memory = [builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in arguments[:2]]
        cgutils.raw_memcpy(builder, *memory, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit
