import os
import subprocess
import sys
from pathlib import Path

import pytest

AGENT = """
if __name__ == "__main__":
    from consumer.fork_server import loading
    print(loading().result())
"""


def verdict(folder: Path) -> str:
    """Return what an agent is told whose server cannot load; modules there come first."""
    script = folder / "agent.py"
    script.write_text(AGENT, encoding="utf-8")
    result = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("numpy", "said"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            (
                "the process that slots are forked from was killed by SIGKILL "
                "while it loaded the kernels"
            ),
        ),
        (
            "import sys; sys.exit(3)",
            (
                "the process that slots are forked from ended with exit code 3 "
                "while it loaded the kernels"
            ),
        ),
        (
            "raise ImportError('no such library')",
            "the kernels cannot be loaded: ImportError: no such library",
        ),
    ],
)
def test_a_server_that_cannot_load_says_why(numpy: str, said: str, tmp_path: Path) -> None:
    # Of what the server loads, the agent does not need numpy: it gets this far with another one.
    (tmp_path / "numpy.py").write_text(numpy, encoding="utf-8")
    assert verdict(tmp_path) == said
