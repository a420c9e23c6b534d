"""The demonstration: two right answers although a consumer dies, and nothing left behind."""

import math
import tempfile
from pathlib import Path

from tests.conftest import require_rabbitmq
from tests.support.stack_jobs import ASIAN_REFERENCE, SIGMAS
from tests.support.stack_processes import Program, environment, eventually

DEMO_SECONDS = 150.0

DIGESTS = {
    "demo-asian": "32c3e6bd53cd15579125f80ca5b2434a2a3368a7270312d04ee531f1d8e5772a",
    "demo-pi": "f67fe69ae722f619362e9c036009a3b8e77cf1feabeedf9b4d7a18a5a4ec67f3",
}
"""The one answer of each run; a change of any bit of any sample is a new version of a model."""

RESULT_KEYS = {
    "run", "state", "model", "model_version", "seed", "sampling", "block_size", "digest",
    "reproducible", "elapsed_seconds", "cpu_seconds", "samples", "cells",
}  # fmt: skip
ESTIMATE_KEYS = {
    "mean", "standard_error", "ci_low", "ci_high", "confidence", "error_reliable",
    "standard_deviation", "variance_reduction", "quantiles",
}  # fmt: skip
REFERENCES = {"demo-asian": ("price", ASIAN_REFERENCE), "demo-pi": ("pi", math.pi)}


def processes_of(folder: str) -> list[int]:
    """Return whoever works in this temporary directory or below: their environment says so."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = entry.read_bytes().split(b"\0")
            if any(variable.startswith(f"TMPDIR={folder}".encode()) for variable in variables):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_the_demonstration_prints_two_right_results_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    require_rabbitmq()
    with tempfile.TemporaryDirectory(prefix="mc-") as temporary:
        env = environment(TMPDIR=temporary)
        demo = Program(("--json",), tmp_path, env, module="ops.demo")
        eventually(lambda: len(processes_of(temporary)) > 3, "the stack is up")
        ended = demo.wait(DEMO_SECONDS)
        assert ended.code == 0, ended.err
        assert processes_of(temporary) == []
        assert list(Path(temporary).iterdir()) == []
        left = [file.name for file in tmp_path.iterdir() if file.suffix not in {".out", ".err"}]
        assert left == []
    assert ended.out.count("\n") == 1
    results = ended.json
    assert [result["run"] for result in results] == [*DIGESTS]
    assert ended.err.count("was killed (SIGKILL)") == 2
    for result in results:
        assert result.keys() >= RESULT_KEYS
        assert (result["state"], result["reproducible"]) == ("finished", True)
        output, reference = REFERENCES[result["run"]]
        (cell,) = result["cells"]
        assert cell.keys() >= {"params", "state", "samples", "outputs"}
        estimate = cell["outputs"][output]
        assert estimate.keys() == ESTIMATE_KEYS
        assert estimate["error_reliable"] is True
        assert 0 < estimate["standard_error"] < 0.01
        assert abs(estimate["mean"] - reference) <= SIGMAS * estimate["standard_error"]
    assert {result["run"]: result["digest"] for result in results} == DIGESTS
    assert [result["samples"] for result in results] == [1_048_576, 33_554_432]
