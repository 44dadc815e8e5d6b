import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qsopt.cli.runtime import compile_in_haste, configure

compile_in_haste()
os.environ.pop("COLUMNS", None)  # which workers have of the terminal that started them

import jax  # noqa: E402  (reads the environment when imported)

from qsopt.programs import forget_programs  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
MAPPINGS = 40_000
"""Memory mappings of a process after which compiled programs are given back. Each program has some,
and Linux ends a process that asks for more than 65,530.
"""


SLOW = frozenset(Path(__file__).with_name("slow.txt").read_text("utf-8").splitlines())
"""Cases that take long beside quicker ones of the same kind: slow too, though no mark says so."""


LONGEST = ("test_precision.py", "test_contract.py", "test_docs.py", "test_request_slopes.py")
"""Files that take a minute or two: first, so that no worker is left with one at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow cases, before cases are chosen by their marks; the longest files come first."""
    for item in items:
        if item.nodeid in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True, scope="session")
def outside_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is compiled, here, by commands and in processes of their own, is kept in one temporary
    folder, so that no worker compiles what another one has.
    """
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    os.environ["XDG_CACHE_HOME"] = str(cache)
    configure()


RESIDENT = 3_000_000_000
"""Memory of a process after which they are given back too [byte]."""


@pytest.fixture(autouse=True, scope="module")
def room_for_programs() -> Iterator[None]:
    """Give compiled programs back between modules before there are too many."""
    yield
    maps, pages = Path("/proc/self/maps"), Path("/proc/self/statm")
    if not maps.is_file():
        return
    resident = int(pages.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident > RESIDENT or maps.read_bytes().count(b"\n") > MAPPINGS:
        forget_programs()
        jax.clear_caches()
        gc.collect()
