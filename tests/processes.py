"""Programs that tests run in processes of their own, which they may spoil."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import oxon as ox

PACKAGE = str(Path(ox.__file__).parents[1])


def python(
    code: str, cache: Path | None = None, seconds: float = 120, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own; None takes a variable away."""
    env = {**os.environ, "PYTHONPATH": PACKAGE, "OXON_NUM_THREADS": "2"}
    if cache is not None:
        env["XDG_CACHE_HOME"] = str(cache)
    for name, value in environment.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return subprocess.run(
        [sys.executable, "-c", f"import oxon as ox\n{code}"],
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def out(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()
