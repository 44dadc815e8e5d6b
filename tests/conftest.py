import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qsopt.cli.runtime import compile_in_haste

compile_in_haste()

import jax  # noqa: E402  (reads the environment when imported)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)
"""A command that runs inside of a test does not change what later tests read and write."""

MAPPINGS = 40_000
"""Memory mappings of a process after which compiled programs are given back. Each program has some,
and Linux ends a process that asks for more than 65,530.
"""


@pytest.fixture(autouse=True, scope="session")
def outside_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache of commands, also of those in processes of their own, in a temporary folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="module")
def room_for_programs() -> Iterator[None]:
    """Give compiled programs back between modules before there are too many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()
        gc.collect()
