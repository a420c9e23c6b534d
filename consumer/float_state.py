"""Whether this thread computes with doubles as the standard says; results depend on it.

A library built with -ffast-math turns subnormal numbers off for everybody when it is loaded;
others change the rounding and forget to change it back.
"""

import contextlib
import ctypes

_DEFAULT_ENVIRONMENT = ctypes.c_void_p(-1)  # FE_DFL_ENV of <fenv.h>


def is_standard() -> bool:
    """Say whether subnormal numbers exist and results are rounded to nearest, ties to even."""
    # Variables: Python computes with constants when it compiles them.
    one, half_step, smallest = 1.0, 2.0**-53, 5e-324
    step, smallest_normal = 2.0 * half_step, 2.0**-1022
    subnormals = smallest > 0.0 and 0.5 * smallest_normal > 0.0
    nearest = one + half_step == one and one + step + half_step == one + 2.0 * step
    nearest_below = -one - half_step == -one and -one - step - half_step == -one - 2.0 * step
    return subnormals and nearest and nearest_below


def restore() -> None:
    """Go back to the standard, where the C library can do that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).fesetenv(_DEFAULT_ENVIRONMENT)
