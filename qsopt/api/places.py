"""Names of the numbers that a sweep moves, and where they stand."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar
from qsopt.errors import InputError, unknown_name
from qsopt.maps.points import NUMBERS, REQUEST_NUMBERS
from qsopt.record import Record
from qsopt.spec.changes import SIZES
from qsopt.spec.deployment import PARALLEL_SIZES, Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

LAYOUT = {**PARALLEL_SIZES, "batch": "batch"}
"""Numbers of a deployment by their short names."""

Q = "q"
"""Size of the dense match."""


class Question(Record):
    """What is asked at one row of a sweep."""

    model: Model
    service: Service
    deployment: Deployment | None = None


def check_names(names: list[str], question: Question) -> None:
    """Refuse what cannot be moved.

    Raises:
        InputError: with what there is.
    """
    if not names:
        raise InputError("over = {}: give the inputs to move, such as over={'context': [1e3, 1e4]}")
    for name in names:
        if name == Q or name in SIZES:
            continue
        if name in LAYOUT and question.deployment is None:
            raise InputError(
                f"{name} is a number of a deployment: give deployment=Deployment(...), or leave "
                f"{name} out and the best is found at every row"
            )
        value = place_of(name)(question)
        if value is None or np.ndim(value) or isinstance(value, Record):
            asked = "a prompt and an answer" if name in REQUEST_NUMBERS else "it"
            raise InputError(f"{name} is no number here: give a workload with {asked}")


def place_of(name: str) -> Callable[[Question], Any]:
    """Where a number stands, for `eqx.tree_at`.

    Args:
        name: a short one, or the way to a field: `accelerator.bandwidth`, `workload.utilization`,
            `efficiency....`, `cluster....`, `deployment....`, `model.decoder.ffn.0.kind.top_k`.

    Raises:
        InputError: if there is no such number.
    """
    if name in NUMBERS:
        return lambda question: NUMBERS[name](question.service)
    if name in LAYOUT:
        return lambda question: getattr(question.deployment, LAYOUT[name])
    root, *steps = name.split(".")
    if root not in _ROOTS or not steps:
        raise unknown_name("input", name[:80], (Q, *NUMBERS, *LAYOUT, *SIZES, *_ROOTS))
    return lambda question: _followed(name, _ROOTS[root](question), steps)


_ROOTS: dict[str, Callable[[Question], Any]] = {
    "model": lambda question: question.model,
    "deployment": lambda question: question.deployment,
    "workload": lambda question: question.service.workload,
    "cluster": lambda question: question.service.cluster,
    "accelerator": lambda question: question.service.cluster.accelerator,
    "efficiency": lambda question: question.service.efficiency,
}


def _followed(name: str, record: Any, steps: list[str]) -> Any:
    for step in steps:
        found = (
            record[int(step)]
            if isinstance(record, tuple) and step.isdecimal() and int(step) < len(record)
            else getattr(record, step, None)
        )
        if found is None:
            fields = ", ".join(getattr(record, "__dataclass_fields__", ())) or "nothing below"
            raise InputError(f"{name}: there is no '{step}'; there is {fields}")
        record = found
    return record


def moved(question: Question, numbers: dict[str, Scalar | float]) -> Question:
    """The question with other numbers."""
    for name, value in numbers.items():
        number = jnp.asarray(value, dtype=jnp.result_type(float))
        question = eqx.tree_at(place_of(name), question, number)
    return question
