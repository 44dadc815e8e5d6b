"""Compiled functions whose programs outlive the process: the same numbers, and no trace the second
time.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsopt
from qsopt import program_store, programs
from qsopt.programs import Program, compiled
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.entries[key] = value

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # so small that JAX keeps nothing itself


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with in_use(Shelf()) as kept:
        yield kept


@contextlib.contextmanager
def in_use(*stores: Shelf) -> Iterator[Shelf]:
    """These stores and no others; gives the first."""
    before = [*program_store.stores]
    program_store.stores[:] = stores
    try:
        yield next(iter(stores), Shelf())
    finally:
        program_store.stores[:] = before


TRACES: list[str] = []


def scaled_sum(pair: dict[str, jax.Array], factor: float, way: str = "sum") -> jax.Array:
    TRACES.append(way)
    total = pair["a"] + pair["b"]
    return factor * (jnp.sum(total) if way == "sum" else jnp.prod(total))


make = partial(compiled, scaled_sum, static=("way",))
PAIR = {"a": np.arange(3.0), "b": np.ones(3)}


def in_another_process(program: Program) -> Program:
    """As a process sees the function that did not compile it yet."""
    program.forget()
    return program


def test_a_kept_program_gives_the_same_and_traces_nothing(shelf: Shelf) -> None:
    first = make()(PAIR, 2.0)
    TRACES.clear()
    again = in_another_process(make())(PAIR, 2.0)
    assert TRACES == []
    assert float(first) == float(again) == 12.0
    assert len(shelf.entries) == 1


def test_programs_differ_by_static_arguments_shapes_types_and_precision(shelf: Shelf) -> None:
    program = make()
    assert float(program(PAIR, 2.0, "product")) == 12.0  # 1 x 2 x 3
    assert float(program(PAIR, 2.0, way="sum")) == 12.0
    assert float(program({"a": np.ones(4), "b": np.ones(4)}, 2.0)) == 16.0
    assert float(program(PAIR, np.float64(2.0))) == 12.0
    count = len(shelf.entries)
    assert count == 4
    with jax.enable_x64(False):
        single = program({name: np.array(value) for name, value in PAIR.items()}, 2.0)
        assert single.dtype == np.float32
    assert len(shelf.entries) == count + 1


def devices(service: Service) -> jax.Array:
    return jnp.asarray(service.cluster.devices)


def test_static_fields_of_records_are_part_of_the_key(shelf: Shelf) -> None:
    """As the rules of a service, which decide what a formula counts."""
    cluster, efficiency = qsopt.load_cluster("8xh100"), qsopt.load_efficiency("ideal")
    program = compiled(devices)
    for rules in (LayoutRules(), LayoutRules(whole_domains=False), LayoutRules(stack="vllm")):
        program(Service(cluster, qsopt.Workload(8192), efficiency, rules))
    assert len(shelf.entries) == 3


def test_arrays_of_jax_and_of_numpy_share_a_program(shelf: Shelf) -> None:
    program = make()
    program(PAIR, np.float64(2.0))
    program({name: jnp.asarray(value) for name, value in PAIR.items()}, jnp.float64(2.0))
    assert len(shelf.entries) == len(program._loaded) == 1


def negative(pair: dict[str, jax.Array], factor: float) -> jax.Array:
    return -factor * jnp.sum(pair["a"])


def test_functions_of_one_signature_are_told_apart(shelf: Shelf) -> None:
    assert float(make()(PAIR, 2.0)) == 12.0
    assert float(compiled(negative)(PAIR, 2.0)) == -6.0


def test_the_package_s_files_and_the_surroundings_are_part_of_the_key(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()(PAIR, 2.0)
    monkeypatch.setattr(programs, "surroundings", lambda: "another version")
    make()(PAIR, 2.0)
    assert len(shelf.entries) == 2


def test_transformations_see_the_function(shelf: Shelf) -> None:
    program = make()
    assert float(jax.grad(lambda factor: program(PAIR, factor))(2.0)) == 6.0
    batch = jax.vmap(lambda factor: program(PAIR, factor))(jnp.arange(3.0))
    assert batch.tolist() == [0.0, 6.0, 12.0]
    assert float(jax.jit(program.jitted, static_argnames="way")(PAIR, 2.0)) == 12.0
    assert shelf.entries == {}


@pytest.mark.parametrize("damage", [b"", b"\x80\x04nothing", b"no pickle"])
def test_an_entry_that_does_not_load_is_made_anew(shelf: Shelf, damage: bytes) -> None:
    make()(PAIR, 2.0)
    (key,) = shelf.entries
    shelf.entries[key] = damage
    assert float(in_another_process(make())(PAIR, 2.0)) == 12.0
    assert shelf.entries[key] != damage


def applied(way: Callable[[float], jax.Array], x: float) -> jax.Array:
    return way(x)


def test_an_argument_without_a_name_is_not_kept(shelf: Shelf) -> None:
    program = compiled(applied, static=("way",))
    assert float(program(lambda x: jnp.asarray(3.0 * x), 2.0)) == 6.0
    assert float(program(lambda x: jnp.asarray(4.0 * x), 2.0)) == 8.0
    assert shelf.entries == {}


def test_without_a_store_it_is_jit() -> None:
    program = make()
    with in_use():
        assert float(program(PAIR, 2.0)) == 12.0
    assert program._loaded == {}


def test_a_function_that_only_a_process_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="of a module"):
        compiled(lambda x: x)


# ---- programs that are read ahead ----------------------------------------------------------------


def reads(monkeypatch: pytest.MonkeyPatch, cores: int = 2) -> list[str]:
    """Keys that are read from the store, in order; as in a process that asked for nothing yet."""
    seen, read = [], program_store._read
    monkeypatch.setattr(program_store, "CORES", cores)
    monkeypatch.setattr(program_store, "_asked_for", {})
    monkeypatch.setattr(program_store, "_read", lambda key: seen.append(key) or read(key))
    return seen


def test_what_was_asked_for_last_time_is_read_ahead(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(monkeypatch)
    with program_store.reading_ahead("a command", "all commands"):
        assert float(make()(PAIR, 2.0)) == 12.0
    for name in ("a command", "another command"):  # which takes those of its kind
        seen = reads(monkeypatch)
        with program_store.reading_ahead(name, "all commands"):
            while not seen:
                time.sleep(0.001)
            assert float(in_another_process(make())(PAIR, 2.0)) == 12.0
        assert len(seen) == 1


def test_what_is_not_asked_for_this_time_is_forgotten(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in (make(), compiled(negative)):
        reads(monkeypatch)
        with program_store.reading_ahead("a command", "all commands"):
            program(PAIR, 2.0)
    listed = program_store._listed(program_store._named("a command"))
    (of_last,) = listed
    assert of_last == next(iter(program_store._asked_for))
    assert program_store._ahead == {}


def test_one_core_reads_what_it_needs_alone(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    reads(monkeypatch)
    with program_store.reading_ahead("a command", "all commands"):
        make()(PAIR, 2.0)
    seen = reads(monkeypatch, cores=1)
    with program_store.reading_ahead("a command", "all commands"):
        time.sleep(0.05)
        assert seen == []


def test_a_damaged_list_or_program_is_passed_over(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(monkeypatch)
    with program_store.reading_ahead("a command", "all commands"):
        make()(PAIR, 2.0)
    for key in shelf.entries:
        shelf.entries[key] = b"\xff\xfe no list, no program"
    reads(monkeypatch)
    with program_store.reading_ahead("a command", "all commands"):
        assert float(in_another_process(make())(PAIR, 2.0)) == 12.0
