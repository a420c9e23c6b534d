"""What numba lacks: fused multiply-add, and doubles seen as their bits.

They can be called from compiled functions only.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_DOUBLE, _WORD = ir.DoubleType(), ir.IntType(64)

Rule = tuple[Any, Callable[..., Any]]


def _fma(typing: Any, a: Any, b: Any, c: Any) -> Rule:
    del typing, a, b, c

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        kind = ir.FunctionType(_DOUBLE, [_DOUBLE] * 3)
        function = builder.module.declare_intrinsic("llvm.fma", [_DOUBLE], kind)
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


def _to_bits(typing: Any, x: Any) -> Rule:
    del typing, x

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.bitcast(arguments[0], _WORD)

    return types.uint64(types.float64), generate


def _from_bits(typing: Any, bits: Any) -> Rule:
    del typing, bits

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.bitcast(arguments[0], _DOUBLE)

    return types.float64(types.uint64), generate


fma = cast(Callable[[float, float, float], float], intrinsic(_fma))
"""a·b + c, rounded once; all float64."""

to_bits = cast(Callable[[float], np.uint64], intrinsic(_to_bits))
"""The bits of a float64 as uint64."""

from_bits = cast(Callable[[np.uint64], float], intrinsic(_from_bits))
"""The float64 with these bits, a uint64."""
