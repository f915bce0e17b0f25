"""Vectors as values of compiled code (numba's extension interface, numba.pydata.org).

A dot product that is added up in eight lanes, each in its own order, and folded in one fixed way
has one result on every machine, whether its processor works on two, four or eight lanes at once.
Left to the compiler, a sum is either not vectorised or reassociated as the processor likes; so the
lanes are a type of their own.

A run of sixteen rows is sorted in registers, where each row is read and written once and not once
for each comparator. Minima and maxima are exact.

None of these functions checks a bound.
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
_INDEX = ir.IntType(32)
_COUNT_VECTOR = ir.VectorType(_INDEX, LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


_LANES = _Lanes()


class _Counts(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Counts")


@register_model(_Counts)
class _CountsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _COUNT_VECTOR)


_COUNTS = _Counts()


@intrinsic
def zeros(_: Any) -> Any:
    """Return eight zeros."""

    def generate(*_: Any) -> ir.Constant:
        return ir.Constant(_VECTOR, [ir.Constant(ir.DoubleType(), 0.0)] * LANES)

    return _LANES(), generate


@intrinsic
def load(_: Any, row: Any, start: Any) -> Any:  # noqa: ARG001 - the type is fixed below
    """Read ``row[start:start + 8]`` of a contiguous array of floats, widened to float64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _read(context, builder, signature.args[0], args[0], args[1], LANES)
        return values if values.type == _VECTOR else builder.fpext(values, _VECTOR)

    return _LANES(row, types.intp), generate


@intrinsic
def add_product(_: Any, total: Any, left: Any, right: Any) -> Any:
    """Return ``total + left * right`` lane by lane, rounded twice: no fused operation."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fadd(args[0], builder.fmul(args[1], args[2]))

    return _LANES(total, left, right), generate


@intrinsic
def add(_: Any, left: Any, right: Any) -> Any:
    """Return ``left + right`` lane by lane."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1])

    return _LANES(left, right), generate


@intrinsic
def divide(_: Any, left: Any, right: Any) -> Any:
    """Return ``left / right`` lane by lane."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fdiv(args[0], args[1])

    return _LANES(left, right), generate


@intrinsic
def spread(_: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Return a float64 in all eight lanes."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], _INDEX(0))
        return builder.shuffle_vector(
            vector,
            ir.Constant(_VECTOR, ir.Undefined),
            ir.Constant(_COUNT_VECTOR, [0] * LANES),
        )

    return _LANES(types.float64), generate


@intrinsic
def store(_: Any, row: Any, start: Any, value: Any) -> Any:  # noqa: ARG001 - as above
    """Write the lanes to ``row[start:start + 8]`` of a contiguous float64 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _write(context, builder, signature.args[0], args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(row, types.intp, value), generate


@intrinsic
def fold(_: Any, total: Any) -> Any:
    """Return ``((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))`` of the lanes."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        # As vectors of half the lanes each time: lane by lane it takes twice as many operations.
        rest = args[0]
        for width in (4, 2, 1):
            half = ir.VectorType(_INDEX, width)
            low = ir.Constant(half, list(range(width)))
            high = ir.Constant(half, list(range(width, 2 * width)))
            rest = builder.fadd(
                builder.shuffle_vector(rest, rest, low), builder.shuffle_vector(rest, rest, high)
            )
        return builder.extract_element(rest, _INDEX(0))

    return types.float64(total), generate


@intrinsic
def pointer(_: Any, address: Any, like: Any) -> Any:
    """Take an address for a pointer to values of the dtype of the array ``like``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), generate


@intrinsic
def prefetch(_: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which may lie behind the end of what is mapped."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        place = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [place, _INDEX, _INDEX, _INDEX])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place], kind)
        reading, second_level, data = _INDEX(0), _INDEX(2), _INDEX(1)
        builder.call(function, [builder.inttoptr(args[0], place), reading, second_level, data])
        return context.get_dummy_value()

    return types.void(address), generate


@intrinsic
def sort_run(_: Any, rows: Any, result: Any, start: Any, width: Any) -> Any:  # noqa: ARG001
    """Sort some columns of sixteen rows.

    Both arrays are contiguous, of float32 or float64, and hold rows of ``width`` values one behind
    the other. The columns are those from the first row's place ``start`` on that one vector holds:
    8 of float32, 4 of float64. No value may be a NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = VECTOR_BYTES * 8 // rows.dtype.bitwidth
        places = [args[2]]
        for _ in range(RUN - 1):
            places.append(builder.add(places[-1], args[3]))
        values = [_read(context, builder, rows, args[0], place, count) for place in places]
        for low, high in network(RUN):
            a, b = values[low], values[high]
            is_less = builder.fcmp_ordered("<", a, b)
            values[low], values[high] = builder.select(is_less, a, b), builder.select(is_less, b, a)
        for place, value in zip(places, values, strict=True):
            _write(context, builder, signature.args[1], args[1], place, value)
        return context.get_dummy_value()

    return types.void(rows, result, types.intp, types.intp), generate


@intrinsic
def none_counted(_: Any) -> Any:
    """Return eight counts of zero."""

    def generate(*_: Any) -> ir.Constant:
        return ir.Constant(_COUNT_VECTOR, [0] * LANES)

    return _COUNTS(), generate


@intrinsic
def count_outside(
    _: Any,
    counts: Any,
    values: Any,
    at: Any,  # noqa: ARG001 - as above
    bounds: Any,
    low: Any,  # noqa: ARG001
    high: Any,  # noqa: ARG001
) -> Any:
    """Count in each lane whether ``values[at]`` is outside ``bounds[low]`` to ``bounds[high]``."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        value = _read(context, builder, values, args[1], args[2], LANES)
        lower = _read(context, builder, bounds, args[3], args[4], LANES)
        upper = _read(context, builder, bounds, args[3], args[5], LANES)
        raised = builder.select(builder.fcmp_ordered("<", value, lower), lower, value)
        inside = builder.select(builder.fcmp_ordered("<", upper, raised), upper, raised)
        is_outside = builder.fcmp_ordered("!=", value, inside)
        return builder.add(args[0], builder.zext(is_outside, _COUNT_VECTOR))

    return _COUNTS(counts, values, types.intp, bounds, types.intp, types.intp), generate


@intrinsic
def add_up(_: Any, counts: Any) -> Any:
    """Return the sum of eight counts."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        total = builder.extract_element(args[0], _INDEX(0))
        for lane in range(1, LANES):
            total = builder.add(total, builder.extract_element(args[0], _INDEX(lane)))
        return builder.zext(total, ir.IntType(64))

    return types.int64(counts), generate


def _read(context: Any, builder: Any, kind: Any, value: Any, start: Any, count: int) -> Any:
    """Read a vector of an array; values need not start at a vector's boundary."""
    array = context.make_array(kind)(context, builder, value)
    vector = ir.VectorType(context.get_data_type(kind.dtype), count)
    place = builder.bitcast(builder.gep(array.data, [start]), vector.as_pointer())
    read = builder.load(place)
    read.align = kind.dtype.bitwidth // 8
    return read


def _write(context: Any, builder: Any, kind: Any, value: Any, start: Any, vector: Any) -> None:
    array = context.make_array(kind)(context, builder, value)
    place = builder.bitcast(builder.gep(array.data, [start]), vector.type.as_pointer())
    builder.store(vector, place).align = kind.dtype.bitwidth // 8
