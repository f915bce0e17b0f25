"""Vectors as values of compiled code (numba's extension interface, numba.pydata.org).

A dot product that is added up in eight lanes, each in its own order, and folded in one fixed way
has one result on every machine, whether its processor works on two, four or eight lanes at once.
Left to the compiler, a sum is either not vectorised or reassociated as the processor likes; so the
lanes are a type of their own.

A run of sixteen rows is sorted in registers, where each row is read and written once and not once
for each comparator. Minima and maxima are exact.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from aggregator.sorting import network

LANES = 8
RUN = 16  # rows
VECTOR_BYTES = 32
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


_LANES = _Lanes()


@intrinsic
def zeros(_: Any) -> Any:
    """Return eight zeros."""

    def generate(*_: Any) -> ir.Constant:
        return ir.Constant(_VECTOR, [ir.Constant(ir.DoubleType(), 0.0)] * LANES)

    return _LANES(), generate


@intrinsic
def load(_: Any, row: Any, start: Any) -> Any:  # noqa: ARG001 - the type is fixed below
    """Read ``row[start:start + 8]`` of a contiguous float64 array; no bounds are checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(array.data, [args[1]])
        value = builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()))
        value.align = 8  # bytes: rows need not start at a vector's boundary
        return value

    return _LANES(row, types.intp), generate


@intrinsic
def add_product(_: Any, total: Any, left: Any, right: Any) -> Any:
    """Return ``total + left * right`` lane by lane, rounded twice: no fused operation."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fadd(args[0], builder.fmul(args[1], args[2]))

    return _LANES(total, left, right), generate


@intrinsic
def spread(_: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Return a float64 in all eight lanes."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        index = ir.IntType(32)
        vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], index(0))
        return builder.shuffle_vector(
            vector,
            ir.Constant(_VECTOR, ir.Undefined),
            ir.Constant(ir.VectorType(index, LANES), [0] * LANES),
        )

    return _LANES(types.float64), generate


@intrinsic
def store(_: Any, row: Any, start: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Write the lanes to ``row[start:start + 8]`` of a contiguous float64 array, unchecked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.gep(array.data, [args[1]])
        builder.store(args[2], builder.bitcast(place, _VECTOR.as_pointer())).align = 8
        return context.get_dummy_value()

    return types.void(row, types.intp, value), generate


@intrinsic
def fold(_: Any, total: Any) -> Any:
    """Return ``((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))`` of the lanes."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        index = ir.IntType(32)
        lane = [builder.extract_element(args[0], ir.Constant(index, i)) for i in range(LANES)]
        pairs = [builder.fadd(lane[i], lane[i + 4]) for i in range(4)]
        even, odd = builder.fadd(pairs[0], pairs[2]), builder.fadd(pairs[1], pairs[3])
        return builder.fadd(even, odd)

    return types.float64(total), generate


@intrinsic
def pointer(_: Any, address: Any, like: Any) -> Any:
    """Take an address for a pointer to values of the dtype of the array ``like``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), generate


@intrinsic
def sort_run(_: Any, rows: Any, first: Any, column: Any) -> Any:  # noqa: ARG001 - as above
    """Sort some columns of the rows from ``first`` to ``first + 15``; no bounds are checked.

    The columns are those from ``column`` on that one vector holds: 8 of float32, 4 of float64. No
    value may be a NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        width = builder.extract_value(array.shape, 1)
        element = context.get_data_type(rows.dtype)
        vector = ir.VectorType(element, VECTOR_BYTES * 8 // rows.dtype.bitwidth)
        places, values = [], []
        for row in range(RUN):
            number = builder.add(args[1], ir.Constant(args[1].type, row))
            place = builder.gep(array.data, [builder.add(builder.mul(number, width), args[2])])
            places.append(builder.bitcast(place, vector.as_pointer()))
            values.append(builder.load(places[-1]))
            values[-1].align = rows.dtype.bitwidth // 8
        for low, high in network(RUN):
            a, b = values[low], values[high]
            is_less = builder.fcmp_ordered("<", a, b)
            values[low], values[high] = builder.select(is_less, a, b), builder.select(is_less, b, a)
        for place, value in zip(places, values, strict=True):
            builder.store(value, place).align = rows.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp), generate
