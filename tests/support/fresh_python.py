"""A fresh interpreter that runs a few lines: what they load and print."""

import os
import subprocess
import sys


def run_python(lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines that must end well, with the same modules in reach and more in the environment."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", lines],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )


def loaded_by(lines: str, *modules: str) -> set[str]:
    """Return which of the modules are loaded once the lines have run."""
    told = f"import sys; print(*(set({modules!r}) & set(sys.modules)), file=sys.stderr)"
    return set(run_python(f"{lines}\n{told}").stderr.split())
