"""Which vectors this processor computes kernels fastest with, found by a quick timing.

On processors with 512-bit vectors LLVM prefers 256 bits, which was right for the first of them.
The bits of the results do not depend on it. To be asked before numba is loaded.
"""

import contextlib
import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from consumer.kernels.cache import cache_directory, one_at_a_time

FEATURES_VARIABLE = "NUMBA_CPU_FEATURES"
_CHOSEN_BY_HAND = ("NUMBA_CPU_NAME", FEATURES_VARIABLE)

_WIDE = "-prefer-256-bit"
_GAIN = 1.05
"""Wide vectors must be faster by this factor: they can cost the processor clock frequency."""

_TIMING_SECONDS = 120.0

log = logging.getLogger(__name__)


def vector_environment() -> dict[str, str]:
    """Return the environment variables that kernels should be compiled under.

    The first call on a processor takes some seconds, later ones read what it found. Empty where
    there is nothing to choose, or where the environment already says.
    """
    processor = _processor()
    if any(os.environ.get(name) for name in _CHOSEN_BY_HAND) or " avx512f " not in processor:
        return {}
    directory = cache_directory()
    if directory is None:
        return {}
    file = directory / f"width-{hashlib.sha256(processor.encode()).hexdigest()[:16]}.json"
    features = _remembered(file)
    if features is None:
        with one_at_a_time():
            features = _remembered(file)
            if features is None:
                features = _choose(file)
    return {FEATURES_VARIABLE: features} if features else {}


def _remembered(file: Path) -> str | None:
    try:
        features: str = json.loads(file.read_text(encoding="utf-8"))["features"]
    except (OSError, ValueError, KeyError):
        return None
    return features


def _choose(file: Path) -> str:
    """Time both widths, remember and return the features of the better one; empty for default."""
    try:
        first = _timed({})
        wide_features = f"{first['host_features']},{_WIDE}"
        # Twice each, in turns: whatever else this machine does must not decide.
        wide = [_timed({FEATURES_VARIABLE: wide_features})]
        usual = [first, _timed({})]
        wide.append(_timed({FEATURES_VARIABLE: wide_features}))
        slow, fast = (min(float(run["nanoseconds"]) for run in runs) for runs in (usual, wide))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        log.warning("the vector width is not chosen: %s", error)
        return ""
    features = wide_features if slow > _GAIN * fast else ""
    found = {"features": features, "usual_nanoseconds": slow, "wide_nanoseconds": fast}
    with contextlib.suppress(OSError):
        _write(file, json.dumps(found))
    return features


def _write(file: Path, text: str) -> None:
    """Write a file that others may read at the same time, whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:
        temporary.write(text)
    path = Path(temporary.name)
    path.chmod(0o644)
    path.replace(file)


def _timed(environment: dict[str, str]) -> dict[str, Any]:
    """Return what a fresh process finds out under this environment."""
    result = subprocess.run(
        [sys.executable, "-m", "consumer.kernels.timing"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_TIMING_SECONDS,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _processor() -> str:
    """Return what the system says about its first processor, surrounded by spaces."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return " "
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return " "
    told = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
    lines = (line.partition(":") for line in first.splitlines())
    return f" {' '.join(value.strip() for key, _, value in lines if key.strip() in told)} "
