"""How soon a first answer comes and how many designs a second, of each peer and of qsopt by turns,
so that what else the machine does slows all of them alike.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

import qsopt
from experiments.bench.first_answers import import_jax, process
from experiments.peers.interpreters import Installed
from experiments.peers.probes.probe import rate
from experiments.peers.questions import REQUESTS, STEPS, Requests
from experiments.peers.requests import ASKED

STEP, SEARCH = replace(STEPS[0], batches=(32,)), REQUESTS[1]
EVALUATE = "evaluate --model mixtral-8x7b --cluster 2xh100 --context 4096 --batch 32 --tp 2"
"""The same of qsopt."""
COUNTS = {"aiconfigurator": 2048, "genz": 64, "llm-analysis": 2048, "ridgepoint": 32768}
"""Designs that a peer evaluates in one process, for about a second or two."""
MOST = 128
"""Sequences that llm-analysis finds room for."""
LENGTHS = (1_000, 1_000_000)
"""Designs that qsopt evaluates at once."""
ONE_BY_ONE = 256


@dataclass(frozen=True)
class Spent:
    """By processes that have ended."""

    wall_s: float
    processor_s: float


# ---- whole processes -----------------------------------------------------------------------------

Actions = Mapping[str, Callable[[], Any]]


def first_answers(peers: Sequence[Installed], repeats: int) -> dict[str, Any]:
    """Seconds from the start of a process to a first step.

    Args:
        peers: that are measured beside qsopt.
        repeats: turns, of which medians are taken.
    """
    with tempfile.TemporaryDirectory() as cache:
        actions: dict[str, Callable[[], Any]] = {
            each.peer.name: partial(each.ask, "steps", **STEP.as_json()) for each in peers
        }
        actions["qsopt"] = partial(process, EVALUATE, cache)
        actions["import jax"] = partial(import_jax, cache)
        actions["qsopt"]()  # fills the cache
        return dict(spent(actions, repeats))


def searches(peers: Sequence[Installed], repeats: int) -> dict[str, Any]:
    """Seconds of a process that searches the best way to serve; once, as it takes a while.

    Args:
        peers: of which those are measured that have such a search.
        repeats: of quicker timings.
    """
    del repeats
    with tempfile.TemporaryDirectory() as cache:
        actions: dict[str, Callable[[], Any]] = {
            each.peer.name: partial(each.ask, "search", **asdict(SEARCH))
            for each in peers
            if each.peer.name == ASKED
        }
        command = partial(process, serve_command(SEARCH), cache)
        actions |= {"qsopt, empty cache": command, "qsopt": command}
        return dict(spent(actions, 1))


def serve_command(question: Requests) -> str:
    """The same question on the command line of qsopt."""
    return (
        f"serve --model {question.model} --cluster {question.cluster} --prompt {question.prompt} "
        f"--answer {question.answer} --ttft-ms {question.ttft_limit * 1e3:.0f} "
        f"--tpot-ms {question.tpot_limit * 1e3:.0f} --stack {question.stack} "
        f"--efficiency {question.stack}"
    )


def spent(actions: Actions, repeats: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Medians of what processes took, by turns."""
    measured = {name: partial(once, action) for name, action in actions.items()}
    for name, values in by_turns(measured, repeats).items():
        wall = statistics.median(value.wall_s for value in values)
        yield name, asdict(Spent(wall, statistics.median(value.processor_s for value in values)))


def once(action: Callable[[], object]) -> Spent:
    start, before = time.perf_counter(), children()
    action()
    return Spent(time.perf_counter() - start, children() - before)


def children() -> float:
    """Processor time of processes that have ended [s]."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def by_turns(actions: Actions, repeats: int) -> dict[str, list[Any]]:
    """What each action gives, each after the other, again and again."""
    turns = [{name: action() for name, action in actions.items()} for _ in range(repeats)]
    return {name: [turn[name] for turn in turns] for name in actions}


# ---- designs a second ----------------------------------------------------------------------------


def rates(peers: Sequence[Installed], repeats: int) -> dict[str, float]:
    """Decode steps a second of processor time, of many batches or of what a peer varies, in one
    process that has begun.

    Args:
        peers: that are measured beside qsopt.
        repeats: turns, of which medians are taken.
    """
    actions: dict[str, Callable[[], Any]] = {
        each.peer.name: partial(
            each.ask, "many", **STEP.as_json(), count=COUNTS[each.peer.name], most=MOST
        )
        for each in peers
    }
    actions["qsopt.evaluate"] = one_by_one
    for length in LENGTHS:
        actions[f"qsopt.evaluate_many, {length:,}"] = partial(at_once, length)
    turns = by_turns(actions, repeats)
    return {name: statistics.median(values) for name, values in turns.items()}


def one_by_one() -> float:
    """Steps a second of processor time, a call for each."""

    def step(batch: int) -> object:
        layout = qsopt.Deployment(tensor=STEP.tensor, batch=batch)
        return qsopt.evaluate(STEP.model, STEP.cluster, qsopt.Workload(STEP.context), layout)

    return rate(lambda index: step(1 + index), ONE_BY_ONE)


def at_once(length: int) -> float:
    """Steps a second of processor time, all in one call."""
    batches = 1.0 + np.arange(length) % 1024
    layouts = jax.vmap(lambda batch: qsopt.Deployment(tensor=STEP.tensor, batch=batch))(batches)
    workload = qsopt.Workload(STEP.context)
    call = partial(qsopt.evaluate_many, STEP.model, STEP.cluster, workload, layouts)
    call()
    start = time.process_time()
    call()
    return length / (time.process_time() - start)
