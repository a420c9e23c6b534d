"""What tells one consumer's numerics from another's, for models whose bits are not portable.

A partial carries it, and a run whose partials carry different ones says so in its result. Audits
compare only partials of one engine: whatever may differ between honest machines must show in it,
or one of them looks wrong.
"""

import hashlib
import inspect
from functools import cache
from pathlib import Path

import numpy as np

from protocol.model import Model
from protocol.model_file import is_from_file

LONGEST = 64


@cache
def engine(model: type[Model]) -> str:
    """Return the engine of a model: its own word, or numpy's fingerprint and its source's hash.

    The hash tells when two packages offer a model of one name and version with different code. A
    model file needs none: its version is its hash.
    """
    if model.engine is not None:
        return model.engine
    return "-".join(filter(None, (fingerprint(), _source(model))))[:LONGEST]


@cache
def fingerprint() -> str:
    """Return what tells one numpy's bits from another's: version, and a hash of golden vectors.

    Functions follow numpy's choice for the processor; products follow that of its linear algebra.
    """
    x = np.linspace(-20.0, 20.0, 4097)
    key = np.array([1, 2], dtype=np.uint64)
    normals = np.random.Generator(np.random.Philox(key=key)).standard_normal(4096)
    functions = np.exp(x), np.log(np.abs(x) + 0.5), np.sin(x), np.tanh(x), np.abs(x) ** 1.3, normals
    square = normals.reshape(64, 64)
    products = square @ square, square @ square[0], normals @ normals, np.linalg.inv(square)
    golden = hashlib.sha256()
    for vector in (*functions, *products):
        golden.update(vector.tobytes())
    return f"numpy-{np.__version__}-{golden.hexdigest()[:16]}"


def _source(model: type[Model]) -> str:
    """Return 8 hex digits of the file that defines a model, nothing where there is none to read."""
    if is_from_file(model):
        return ""
    try:
        path = inspect.getsourcefile(model)
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8] if path else ""
    except (OSError, TypeError):
        return ""
