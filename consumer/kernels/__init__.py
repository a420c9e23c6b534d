"""Compiled building blocks of the models' kernels; their bits are the same on every CPU.

Only + - * / sqrt fma, comparisons, selects and integer operations, compiled without fastmath.
Import it inside methods only: loading a model must not load a compiler.
"""
