"""A parallel region as compiled code: parts of a kernel's items, claimed by whichever thread is free.

The threads share a small array of numbers, the *board*. A region begins when its first thread writes on it the
addresses of the kernel and of its arguments, and a *ticket*: the numbers of the region, of threads, of parts and of
the next part, in one word. Threads that watch the board claim parts by exchanging the ticket for its successor, run
them and count them; the region ends when all parts are counted. Nobody waits for a thread that has not begun:
whoever is there does the work. Nothing here takes Python's lock, so that a region begins within a microsecond.
"""

import functools
import inspect
import types as python_types
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from llvmlite.binding import Linkage, get_default_triple, parse_assembly
from numba.core import cgutils, compiler, types
from numba.extending import intrinsic

from blobnet.kernels._jit import Kernel, PartLibrary, jit
from blobnet.kernels.memory import copy_bytes, flat_array

# The board: places of its numbers, each on a cache line of its own that others are written to meanwhile.
TICKET, DONE, FAILED = 0, 8, 16
KERNEL, ARGUMENTS, COUNT, BLOCKS, GRAIN, RUN = 24, 25, 26, 27, 28, 29
SIZE, KEPT = 30, 31  # bytes of the arguments, and where ``keep_arguments`` puts them
TAKEN = 32  # whether a thread runs regions, one or more
BOARD_SIZE = 40

# Bits of a ticket, from the lowest: next part, parts, threads, region.
PARTS_AT, THREADS_AT, REGION_AT = 16, 32, 44
MOST_PARTS, MOST_THREADS, MOST_REGIONS = (1 << 16) - 1, (1 << 12) - 1, (1 << 19) - 1

# Looks at the board before a thread that finds no work gives up: a millisecond or two, longer than Python takes
# from one layer to the next.
PATIENCE = 40_000


def board() -> np.ndarray:
    """A board on which no region has begun; on it the address of ``run_region``, once compiled for all kernels."""
    return _board_for(run_region)


def _board_for(run: Kernel) -> np.ndarray:
    """A board on which the regions that begin are given to a function."""
    board, dispatcher = np.zeros(BOARD_SIZE, np.int64), run.dispatcher
    dispatcher.compile(tuple(map(dispatcher.typeof_pyval, (board, *[0] * 5))))
    compiled = dispatcher.overloads[dispatcher.signatures[0]]
    board[RUN] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return board


def kept(start: Callable, scratch: np.ndarray | None, args: Sequence) -> tuple[int, int, np.ndarray]:
    """For ``run_regions``: the address of a kernel, that of its arguments, and what they lie in, as ``start`` has them.

    They hold as long as the arrays among them are alive, and what they lie in is.
    """
    board = _board_for(keep_arguments)
    start(board, 0, 0, 0, 0, 0, scratch, *args)
    memory = np.empty(board[SIZE], np.uint8)
    board[KEPT] = memory.ctypes.data
    start(board, 0, 0, 0, 0, 0, scratch, *args)
    return int(board[KERNEL]), memory.ctypes.data, memory


@functools.cache
def starter(kernel: Kernel) -> Callable:
    """The compiled ``start(board, count, blocks, grain, parts, threads, scratch, *args)`` of a kernel: runs a region.

    Item ranges go to ``kernel(start, stop, *args)``, with the row of the thread in ``scratch`` as a last argument
    unless that is None. Returns how many parts failed: those in which the kernel raised an error.
    Its ``kernel`` is the kernel.
    """
    names = {**globals(), "_post_kernel": _poster(kernel)}
    start = python_types.FunctionType(_start.__code__, names, f"start_{kernel.__name__}")
    start.__qualname__, start.__module__, start.kernel = start.__name__, kernel.__module__, kernel
    return jit(start, fastmath=kernel.options["fastmath"]).dispatcher  # what is compiled within inherits it


@functools.cache
def named_arguments(kernel: Kernel) -> dict[int, type]:
    """The places among ``args`` that the kernel's annotations name a NamedTuple for, and which.

    There ``start`` takes plain tuples, and the kernel gets them under their names: numba takes a microsecond or more
    to see what a named tuple is, each time.
    """
    kinds = [parameter.annotation for parameter in inspect.signature(kernel.py_func).parameters.values()]
    return {place: kind for place, kind in enumerate(kinds[2:]) if issubclass(kind, tuple)}


def _post_kernel(board, scratch, args):
    """Put the addresses of a kernel and its arguments on the board: each ``starter`` has its own (``_poster``)."""


def _start(board, count, blocks, grain, parts, threads, scratch, *args):
    _post_kernel(board, scratch, args)
    return _run_region(board[RUN], board, count, blocks, grain, parts, threads)


@jit
def run_region(board, count, blocks, grain, parts, threads):
    """Run the region of the kernel on the board to its end; returns how many parts failed."""
    board[COUNT], board[BLOCKS], board[GRAIN] = count, blocks, grain
    board[DONE] = board[FAILED] = 0
    region = (board[TICKET] >> REGION_AT) + 1 & MOST_REGIONS
    _exchange(board, TICKET, board[TICKET], region << REGION_AT | threads << THREADS_AT | parts << PARTS_AT)
    run_parts(board, 0)
    while _load(board, DONE) < parts:
        _pause()
    return board[FAILED]


@jit
def keep_arguments(board, count, blocks, grain, parts, threads):
    """In place of ``run_region``: copy the arguments to where they are to be kept, once that is known."""
    if board[KEPT]:
        copy_bytes(board[KEPT], board[ARGUMENTS], board[SIZE])
    return 0


@jit
def run_regions(board, regions, alone):
    """Run regions [kernel, arguments, count, blocks, grain, parts, threads] in order, until a part of one fails.

    Returns how many succeeded.

    alone  the first thread takes all of them
    """
    for done, region in enumerate(regions):
        board[KERNEL], board[ARGUMENTS] = region[0], region[1]
        parts, threads = (1, 1) if alone else (region[5], region[6])
        if _run_region(board[RUN], board, region[2], region[3], region[4], parts, threads):
            return done
    return len(regions)


@jit
def run_parts(board, thread):
    """Claim and run parts of the region on the board until there are no more; returns how many."""
    ran = 0
    while True:
        ticket = _load(board, TICKET)
        part, parts, threads = ticket & MOST_PARTS, ticket >> PARTS_AT & MOST_PARTS, ticket >> THREADS_AT & MOST_THREADS
        if part >= parts or thread >= threads:
            return ran
        if _exchange(board, TICKET, ticket, ticket + 1):
            count, blocks, grain = board[COUNT], board[BLOCKS], board[GRAIN]
            start, stop = first_block(part, parts, blocks) * grain, first_block(part + 1, parts, blocks) * grain
            if _call(board[KERNEL], start, min(stop, count), thread, board[ARGUMENTS]):
                _add(board, FAILED)
            _add(board, DONE)
            ran += 1


@jit
def first_block(part, parts, blocks):
    """Where a part begins: each has a block, and of those left the less the later it is claimed.

    So threads end at about the same time, however fast each is (Tzen and Ni 1993, Trapezoid self-scheduling).
    """
    whole, left = parts * parts, parts - part
    return part - (parts - blocks) * (whole - left * left) // whole


@jit
def serve(board, thread):
    """Run parts of whatever region is on the board, until none has come for a while and the board is not taken."""
    idle = 0
    while idle < PATIENCE:
        if run_parts(board, thread) or _load(board, TAKEN):
            idle = 0
        _pause()
        idle += 1


def _poster(kernel: Kernel) -> Callable:
    """The intrinsic that puts the addresses of a kernel and its arguments on the board."""

    @intrinsic
    def post_kernel(typing, board, scratch, args):
        rows = [] if isinstance(scratch, types.NoneType) else [types.Array(scratch.dtype, 1, "C")]
        named = named_arguments(kernel)
        kinds = [
            types.BaseTuple.from_types(kind.types, named[place]) if place in named else kind
            for place, kind in enumerate(args.types)
        ]
        signature = types.void(types.intp, types.intp, *kinds, *rows)

        def emit(context, builder, outer, values):
            _, rows_value, args_value = values
            _call_only_own_copies(context.active_code_library)
            packed = cgutils.pack_struct(builder, [args_value, rows_value])
            arguments = cgutils.alloca_once_value(builder, packed)
            size = _word(context.get_abi_sizeof(packed.type))
            caller = _caller(context, builder, kernel, signature, outer.args[1], packed.type)
            address = _board(context, builder, outer, values)
            word = ir.IntType(64)
            builder.store(builder.ptrtoint(caller, word), builder.gep(address, [_word(KERNEL)]))
            builder.store(builder.ptrtoint(arguments, word), builder.gep(address, [_word(ARGUMENTS)]))
            builder.store(size, builder.gep(address, [_word(SIZE)]))
            return context.get_dummy_value()

        return types.void(board, scratch, args), emit

    return post_kernel


def _call_only_own_copies(library) -> None:
    """Let no other library's machine code take the place of the functions that this one has linked in.

    Copies of a function are optimised where they lie, and may round differently; left alone, the linker takes the one
    that was loaded first, which the process that compiles and those that load do in different orders.
    Of what others could link in, only the names are kept: nobody calls this library but Python.
    """
    finish = library._finalize_final_module

    def close_and_finish():
        for function in library.get_defined_functions():
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        names = [function.name for function in library.get_defined_functions() if function.linkage == Linkage.external]
        stubs = "".join(f'define void @"{name}"() {{ ret void }}\n' for name in names)
        library._shared_module = parse_assembly(stubs)
        finish()

    library._finalize_final_module = close_and_finish


def _caller(context, builder, kernel: Kernel, signature, scratch, packed: ir.Type) -> ir.Function:
    """A function (start, stop, thread, address of the arguments) -> whether the kernel failed."""
    word = ir.IntType(64)
    module = builder.module
    function = ir.Function(module, ir.FunctionType(_FAILED, [word] * 4), module.get_unique_name("call_kernel"))
    function.linkage = "internal"
    start, stop, thread, address = function.args
    inner = ir.IRBuilder(function.append_basic_block())
    args, rows = cgutils.unpack_tuple(inner, inner.load(inner.inttoptr(address, packed.as_pointer())))
    arguments = [start, stop, *cgutils.unpack_tuple(inner, args)]
    has_rows = not isinstance(scratch, types.NoneType)
    if has_rows:
        whole = context.make_array(scratch)(context, inner, rows)
        _, length = cgutils.unpack_tuple(inner, whole.shape)
        row = inner.gep(whole.data, [inner.mul(thread, length)])
        arguments.append(flat_array(context, inner, signature.args[-1], row, length))
    inner.ret(inner.zext(_call_kernel(context, inner, kernel, signature, arguments), _FAILED))
    return function


def _call_kernel(context, builder, kernel: Kernel, signature, arguments: list) -> ir.Value:
    """Compile a kernel into the module at hand and call it; whether it failed."""
    flags, dispatcher = compiler.Flags(), kernel.dispatcher
    dispatcher.targetdescr.options.parse_as_flags(flags, dispatcher.targetoptions)
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    library = PartLibrary(context.codegen(), kernel.__name__)
    compiled = compiler.compile_internal(
        context.typing_context, context, library, kernel.py_func, signature.args, signature.return_type, flags, {}
    )
    context.active_code_library.add_linking_library(library)
    status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, signature, arguments)
    return status.is_error


_FAILED = ir.IntType(32)
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", []), "aarch64": ("llvm.aarch64.hint", [1])}


@intrinsic
def _call(typing, kernel, start, stop, thread, arguments):
    """Call what ``_caller`` has made."""

    def emit(context, builder, signature, values):
        address, *rest = values
        function = ir.FunctionType(_FAILED, [value.type for value in rest])
        return builder.call(builder.inttoptr(address, function.as_pointer()), rest)

    return types.int32(*[types.intp] * 5), emit


@intrinsic
def _run_region(typing, address, board, count, blocks, grain, parts, threads):
    """Call ``run_region``, which is at the address."""

    def emit(context, builder, signature, values):
        kinds, convention = signature.args[1:], context.call_conv
        function = convention.get_function_type(signature.return_type, kinds).as_pointer()
        run = builder.inttoptr(values[0], function)
        return convention.call_function(builder, run, signature.return_type, kinds, values[1:])[1]

    return types.intp(address, board, *[types.intp] * 5), emit


@intrinsic
def _load(typing, board, place):
    """The number there; what its writer has written before is seen too."""

    def emit(context, builder, signature, values):
        return builder.load_atomic(_place(context, builder, signature, values), "acquire", 8)

    return types.intp(board, types.intp), emit


@intrinsic
def _exchange(typing, board, place, old, new):
    """Replace the number there, if it is ``old``; whether it was."""

    def emit(context, builder, signature, values):
        target = _place(context, builder, signature, values)
        return builder.extract_value(builder.cmpxchg(target, *values[2:], "acq_rel", "acquire"), 1)

    return types.boolean(board, types.intp, types.intp, types.intp), emit


@intrinsic
def _add(typing, board, place):
    """Add 1 to the number there."""

    def emit(context, builder, signature, values):
        builder.atomic_rmw("add", _place(context, builder, signature, values), _word(1), "acq_rel")
        return context.get_dummy_value()

    return types.void(board, types.intp), emit


@intrinsic
def _pause(typing):
    """Let the other thread of the core, or a virtual processor, know that this one waits."""

    def emit(context, builder, signature, values):
        processor = get_default_triple().partition("-")[0]
        if processor in _PAUSES:
            name, hints = _PAUSES[processor]
            arguments = [ir.Constant(ir.IntType(32), hint) for hint in hints]
            instruction = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            builder.call(cgutils.get_or_insert_function(builder.module, instruction, name), arguments)
        return context.get_dummy_value()

    return types.void(), emit


def _board(context, builder, signature, values) -> ir.Value:
    return context.make_array(signature.args[0])(context, builder, values[0]).data


def _place(context, builder, signature, values) -> ir.Value:
    return builder.gep(_board(context, builder, signature, values), [values[1]])


def _word(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)
