"""Whole processes, from the shell's prompt to the answer, beside one that only imports JAX."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial

from experiments.bench.clock import Row, by_turns

CASE = "--model deepseek-v3 --cluster 16xh200"
COMMANDS = {
    "evaluate": (f"evaluate {CASE} --context 131072 --batch 64 --tp 1 --dp 16 --ep 16 --pp 1", 1.8),
    "compare (decode, and a line on requests)": (f"compare {CASE} --context 131072", 3.0),
    "compare (requests)": (f"compare {CASE} --prompt 8192 --answer 1024", None),
    "serve": (
        "serve --model qwen3-235b-a22b --cluster 16xh200 --prompt 8192 --answer 1024 "
        "--ttft-ms 2000 --tpot-ms 40",
        None,
    ),
    "optimize": ("optimize --like mixtral-8x7b --cluster 8xh100 --context 8192", None),
    "report (decode)": (f"report {CASE} --context 131072 --out PAGE", None),
    "report (requests)": (f"report {CASE} --prompt 8192 --answer 1024 --out PAGE", None),
}
"""Command lines (`PAGE` is a file), and how many times an import of JAX each should take with a
filled cache.
"""
COMMAND = [sys.executable, "-c", "import sys; from qsopt.cli import main; sys.exit(main())"]
PROPOSE = (
    "propose --quality-of qwen3-235b-a22b --cluster 64xh100 --prompt 8k --answer 1k --tpot-ms 50 "
    "--ttft-ms 2000"
)
COLD = {"serve": "8 s"}
"""What is asked of an empty cache."""
FILLED = {"optimize": "6 s", "report (decode)": "20 s", "report (requests)": "20 s"}


def rows(repeats: int) -> Iterator[Row]:
    """Of each command with an empty cache and with a filled one."""
    for name, (arguments, times) in COMMANDS.items():
        with tempfile.TemporaryDirectory() as cache:
            ask = partial(process, arguments.replace("PAGE", f"{cache}/page.html"), cache)
            (cold,) = by_turns(1, ask)
            filled, bare = by_turns(repeats, ask, lambda: import_jax(cache))
        yield Row(f"`qsopt {name}`, empty cache", cold, "s", COLD.get(name, "-"))
        yield Row(f"`qsopt {name}`, filled cache", filled, "s", FILLED.get(name, "-"))
        aim = "-" if times is None else f"{times:.2g} times"
        yield Row("over `import jax` by turns", filled / bare, "times", aim)
    best, every = until(COMMANDS["optimize"][0], "best of all")
    yield Row("`qsopt optimize`, empty cache, its best design, certified", best, "s", "10 s")
    yield Row("`qsopt optimize`, empty cache, with slopes and prices", every, "s", "-")
    with tempfile.TemporaryDirectory() as folder:
        first, every = until(f"{PROPOSE} --out {folder}/proposals", "first moe design")
    yield Row("`qsopt propose`, empty cache, its first design", first, "s", "10 s")
    yield Row("`qsopt propose`, empty cache, all designs and fronts", every, "s", "60 s")


def until(arguments: str, sign: str) -> tuple[float, float]:
    """Until a line of progress says something, and until the end, with an empty cache [s]."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        words = [*COMMAND, *arguments.split()]
        with subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": cache},
        ) as asked:
            assert asked.stderr is not None
            said = next(time.perf_counter() for line in asked.stderr if sign in line)
            for _ in asked.stderr:
                pass
        if asked.returncode:
            raise subprocess.CalledProcessError(asked.returncode, words)
        return said - began, time.perf_counter() - began


def process(arguments: str, cache: str) -> None:
    """One command in a process of its own."""
    run([*COMMAND, *arguments.split(), "--json"], cache)


def import_jax(cache: str) -> None:
    """A process that imports JAX and ends."""
    run([sys.executable, "-c", "import jax"], cache)


def run(words: list[str], cache: str) -> None:
    """A process with this cache folder."""
    subprocess.run(
        words,
        check=True,
        capture_output=True,
        env={**os.environ, "XDG_CACHE_HOME": cache},
    )
