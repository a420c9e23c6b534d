"""The same bits whatever the instruction set, and code in which nothing could change them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest

ROOT = Path(__file__).parents[2]
HOST = llvm.get_host_cpu_features()
WIDE = HOST.get("avx512f", False)

RESTRICTED = {
    "x86-64-v2": {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+sse4.2"},
    "x86-64-v3": {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
}
NATIVE = {
    "256 bits": {"NUMBA_CPU_FEATURES": f"{HOST.flatten()},+prefer-256-bit"},
    "512 bits": {"NUMBA_CPU_FEATURES": f"{HOST.flatten()},-prefer-256-bit"},
}


def run(task: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return what a fresh process under this environment says."""
    result = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, ROOT / "tests" / "support" / "kernel_bits.py", task],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    return run("bits", {})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*RESTRICTED, *NATIVE])
def test_the_bits_do_not_depend_on_the_instruction_set(name: str, usual: dict[str, Any]) -> None:
    if (name == "512 bits" and not WIDE) or (name == "x86-64-v3" and not HOST.get("fma", False)):
        pytest.skip("this processor has no such instructions")
    assert len(usual) > 6
    assert run("bits", {**RESTRICTED, **NATIVE}[name]) == usual


EXACT = re.compile(
    r"llvm\.(fma|sqrt|fabs|copysign)\.(v\d+)?f64"  # rounded once, by definition
    r"|sqrt"  # of the C library: correctly rounded, as the standard demands
    r"|llvm\.(bitreverse|ctlz|cttz|ctpop|abs|fsh[lr]|[su](max|min)|[su](add|sub|mul)\.with\.overflow)"
    r"\.(v\d+)?i\d+"
    r"|llvm\.vector\.reduce\.(add|or|and|xor|[su](max|min))\.v\d+i\d+"  # of integers
    r"|llvm\.(masked|mem|assume|lifetime|experimental\.noalias|x86\.atomic)[\w.]*"
    r"|NRT_\w+|Py\w+|_Py\w+|numba_\w+"  # memory, arguments and exceptions
)


def test_no_kernel_holds_anything_that_could_change_a_bit(tmp_path: Path) -> None:
    # Code from the cache cannot be looked into, so all is compiled again.
    found = run("scan", {"MONTEMQ_CACHE_DIR": str(tmp_path)})
    assert found["kernels"] > 30
    assert found["flags"] == []
    assert [name for name in found["called"] if not EXACT.fullmatch(name)] == []
    assert "llvm.fma.f64" in found["called"]


def test_the_scan_knows_what_it_looks_for() -> None:
    for name in (
        "llvm.fmuladd.f64",
        "exp",
        "pow",
        "llvm.exp.v4f64",
        "llvm.vector.reduce.fadd.v4f64",
    ):
        assert not EXACT.fullmatch(name)
