"""The same question has the same bytes for an answer: in every process, with any seed of Python's
hashes, one thread or many, an empty cache or a filled one.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

QUESTIONS = {
    "evaluate": "evaluate --model olmoe-1b-7b --cluster 1xh100 --context 4096",
    "compare": "compare --model olmoe-1b-7b --cluster 1xh100 --context 4096",
    "serve": "serve --model olmoe-1b-7b --cluster 1xh100 --prompt 512 --answer 64",
    "crossover": "crossover --model olmoe-1b-7b --cluster 1xh100 --from 1k --to 64k",
    "map": "map --model olmoe-1b-7b --cluster 1xh100 --x-points 5 --y-points 4",
    "optimize": "optimize --like olmoe-1b-7b --cluster 1xh100 --context 4096 --vary top_k,batch "
    "--starts 4",
}

SURROUNDINGS: dict[str, dict[str, str]] = {
    "another process": {},
    "other hashes": {"PYTHONHASHSEED": "12345"},
    "one thread": {
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
        "--xla_cpu_multi_thread_eigen=false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    },
    "an empty cache": {"XDG_CACHE_HOME": "new"},
}


def asked(name: str, folder: Path, **variables: str) -> bytes:
    """What a command prints in a process of its own."""
    if "XDG_CACHE_HOME" in variables:
        variables["XDG_CACHE_HOME"] = str(folder)
    code = "import sys; from qsopt.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *QUESTIONS[name].split(), "--json"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", **variables},
        check=True,
    ).stdout


@cache
def first(name: str) -> bytes:
    return asked(name, ROOT)


def cases() -> list[object]:
    """One quick case; its siblings are slow."""
    return [
        pytest.param(
            name, how, marks=() if (name, how) == ("evaluate", "other hashes") else pytest.mark.slow
        )
        for name in QUESTIONS
        for how in SURROUNDINGS
    ]


@pytest.mark.parametrize(("name", "how"), cases())
def test_the_same_question_has_the_same_bytes(tmp_path: Path, name: str, how: str) -> None:
    again = asked(name, tmp_path, **SURROUNDINGS[how])
    assert again == first(name)
    assert b'"seconds":' not in again or name in ("evaluate", "compare"), "no clock in an answer"
