"""Small arrays on the stack of the function that makes them: gone when it returns, with nobody to count who uses them.

Their length is a constant, and the memory is that of the function: made in a loop, they are the same each time.
"""

from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from blobnet.kernels.instructions import constant
from blobnet.kernels.memory import flat_array
from blobnet.kernels.workspace import CACHE_LINE


@intrinsic(prefer_literal=True)
def empty(typing, count, dtype):
    """An array of so many elements, with anything in them."""
    return _array(count, dtype, zeroed=False)


@intrinsic(prefer_literal=True)
def zeros(typing, count, dtype):
    """An array of so many zeros."""
    return _array(count, dtype, zeroed=True)


def _array(count: types.Type, dtype: types.Type, zeroed: bool):
    """The signature of what makes such an array, and what writes its instructions."""
    if not isinstance(count, types.IntegerLiteral):
        raise TypingError("the length is a constant of the module")

    def emit(context, builder, signature, arguments):
        number = constant(count.literal_value)
        with builder.goto_entry_block():
            memory = builder.alloca(context.get_data_type(dtype.dtype), number)
        memory.align = CACHE_LINE
        if zeroed:
            cgutils.memset(builder, memory, constant(count.literal_value * dtype.dtype.bitwidth // 8), 0)
        return flat_array(context, builder, signature.return_type, memory, number)

    return types.Array(dtype.dtype, 1, "C")(count, dtype), emit
