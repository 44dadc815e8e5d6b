"""Fresh processes, which no setting of the tests has reached."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""The compiler in haste, as the command line uses it."""


def run(cache: Path, *arguments: str) -> str:
    """What a Python process prints that starts in JAX's default precision, with warnings as errors.

    Args:
        cache: folder for what JAX compiles.
        *arguments: of the interpreter.
    """
    hidden = ("JAX_ENABLE_X64", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": QUICK,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
