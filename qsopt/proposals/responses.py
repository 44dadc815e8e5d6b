"""What designs would gain from more of something: ten percent more, with deployment, way and batch
chosen anew.

    elasticity = log(throughput with more / throughput) / log 1.1

These are exact optima, not slopes, so whole batches and changes of layout are in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsopt.deployments.batches import length
from qsopt.proposals.choices import joined
from qsopt.proposals.fields import Task, settled
from qsopt.proposals.points import Point, State
from qsopt.proposals.scores import INPUTS, rows_of
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import GB, MILLISECOND, TB

MORE = 1.1
"""Of each input."""

LIMIT = "tpot_limit"
"""The limit on the time per token, beside `INPUTS`."""


@dataclass(frozen=True)
class Response:
    """What more of one input brings."""

    input: str
    elasticity: float
    """log of the throughput over that as things are, over log `MORE`."""
    price: float | None
    """What one more unit brings [tokens/s of the cluster]; None for what is no resource."""
    unit: str | None


def responses(state: State, designs: Sequence[Point]) -> list[list[Response]]:
    """The response of every design to more of every input that matters."""
    task = state.task
    names = [name for name in (*INPUTS, LIMIT) if _matters(task, name)]
    asked = [(place, name) for place in range(len(designs)) for name in names]
    lists = [state.choices[designs[place].family].every for place, _ in asked]
    owner = np.repeat(np.arange(len(asked)), [length(each) for each in lists])
    rows = np.stack([designs[place].row for place, _ in asked])[owner]
    limits = np.array([designs[place].limit for place, _ in asked])[owner]
    table = rows_of(rows, joined(lists), limits)
    for index, (_, name) in enumerate(asked):
        if name == LIMIT:
            table.limit[owner == index] *= MORE
        else:
            table.factors[owner == index, INPUTS.index(name)] = MORE
    more = settled(task, table, owner, len(asked)).best.throughput
    answers: list[list[Response]] = [[] for _ in designs]
    for (place, name), reached in zip(asked, more, strict=True):
        answers[place].append(_response(task, designs[place], name, float(reached)))
    return answers


def _matters(task: Task, name: str) -> bool:
    """Whether the question has such an input: a limit, or requests."""
    if name == LIMIT:
        return task.limit < NO_LIMIT
    if name == "ttft_limit":
        return not task.decode_alone and float(task.service.workload.ttft_limit) < NO_LIMIT
    return True


def _response(task: Task, design: Point, name: str, more: float) -> Response:
    """Of a design that reaches so much with more of an input."""
    ratio = more / design.throughput if design.throughput > 0 and more > 0 else np.nan
    value, unit = _resource(task, name)
    gained = design.throughput * (ratio - 1.0)
    price = None if value is None else gained / ((MORE - 1.0) * value)
    return Response(name, float(np.log(ratio) / np.log(MORE)), price, unit)


def _resource(task: Task, name: str) -> tuple[float | None, str | None]:
    """How much of an input there is, in the unit that people count it in."""
    chip, workload = task.service.cluster.accelerator, task.service.workload
    known = {
        "bandwidth": (chip.bandwidth, GB, "GB/s of memory bandwidth"),
        "memory": (chip.memory_bytes, GB, "GB of device memory"),
        "compute": (chip.peak_flops[0], TB, "TFLOP/s of bf16, other formats in proportion"),
        "scale_up_bandwidth": (chip.scale_up_bandwidth, GB, "GB/s inside a domain"),
        "scale_out_bandwidth": (chip.scale_out_bandwidth, GB, "GB/s between domains"),
        "ttft_limit": (workload.ttft_limit, MILLISECOND, "ms of time to first token"),
        LIMIT: (workload.tpot_limit, MILLISECOND, "ms of time per token"),
    }
    if name not in known:
        return None, None
    value, scale, unit = known[name]
    return float(value) / scale, unit
