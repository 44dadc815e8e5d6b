"""Any input moved, any metric read: a table of one design, or of both sides in their best ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyLaw,
    AnyModel,
    as_model,
    as_service,
    inquire_match,
)
from qsopt.api.places import Q, Question, check_names, moved
from qsopt.api.sweep_sides import PairSweep
from qsopt.comparison.dense import Twin
from qsopt.comparison.shapes import MatchAttention
from qsopt.errors import InputError, unknown_name
from qsopt.physics.evaluate import compiled_metrics
from qsopt.precision import in_float64
from qsopt.quality.belief import DEFAULT
from qsopt.spec.changes import SIZES, changed
from qsopt.spec.deployment import Deployment
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

MOST_ROWS = 1_000_000
"""Of a table."""

METRICS = (
    "throughput",
    "per_device",
    "per_user",
    "tpot",
    "step",
    "replicas",
    "largest_batch",
    "reuse",
    "experts_hit",
    "feasible",
)
"""Of one design."""


class Sweep(Mapping[str, np.ndarray]):
    """A table: columns of equal length by name, as `pandas.DataFrame(sweep.to_dict())` and
    `polars.DataFrame(sweep.to_dict())` take them.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            raise KeyError(f"{name}: there is {', '.join(self._columns)}")
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self._columns.values()), ()))
        return f"Sweep({rows} rows: {', '.join(self._columns)})"

    def to_dict(self) -> dict[str, np.ndarray]:
        """The columns."""
        return dict(self._columns)


def sweep(
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    over: Mapping[str, Sequence[float] | np.ndarray],
    deployment: Deployment | None = None,
    metrics: Sequence[str] | None = None,
    slopes: bool = False,
    q: float | None = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    twin: Twin = "released",
    twin_attention: MatchAttention = "same",
    dense: AnyModel | None = None,
    law_raw: bool = False,
    service: Service | None = None,
) -> Sweep:
    """A table over all combinations of some inputs' values, the last one fastest.

    With a deployment: what that design reaches, all rows at once (`jax.vmap`), in about a
    microsecond each. Without one: an MoE and its dense match, each in its own exact best
    deployment, or way of serving requests, at every row.

    Args:
        model: what is served, or its name; without a deployment an MoE.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context, or prompt and answer, and limits.
        efficiency: a set, or the name of one (see `load_efficiency`).
        over: values by input: `context`, `prompt`, `answer`, `cached`, `tpot`, `ttft`, `load`,
            `acceptance`, `devices`, `bandwidth`, `capacity`, `scale_up`, `scale_out`, `domain`; of
            a deployment `batch`, `tp`, `dp`, `pp`, `ep`; `q`; sizes of the model such as `top_k`,
            `experts` or `layers` (see `Model.with_`); or the way to any number, such as
            `workload.utilization`, `accelerator.bandwidth` or `model.decoder.ffn.0.kind.width`.
        deployment: the design, instead of both sides' best.
        metrics: to read, all by default: of a design `METRICS`; of sides throughput, per_device,
            per_user, tpot, and of requests requests, ttft and end_to_end.
        slopes: whether to add derivatives of throughput by every input that is no size and not q,
            with deployments and batches as they are.
        q: size factor of the dense match, instead of a law.
        law: the quality law that gives q, or its name.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        twin: shape of the dense model, `released` or `same-body`.
        twin_attention: of a twin of released shape, `same` or `gqa8`.
        dense: a dense model that exists, or its name, instead; q becomes a result.
        law_raw: take the bare law's q, not the calibrated median.
        service: instead of cluster, workload and efficiency.

    Raises:
        InputError: if there is no such input or metric, a row is no question, or the table is too
            long.
    """
    served = as_service(cluster, workload, efficiency, service)
    question = Question(as_model(model), served, deployment)
    names = list(over)
    check_names(names, question)
    columns = _grid(over)
    if deployment is not None:
        if Q in names:
            raise InputError("q is about the dense match, and one design is asked about: leave it")
        return Sweep(_of_design(question, columns, _known(metrics, METRICS), slopes))
    how = {"law": law, "q": q, "tokens": tokens, "law_raw": law_raw}
    inquiry = inquire_match(model, cluster, served, twin, twin_attention, dense, **how)
    inquiry.check_one_law()
    if Q in names and dense is not None:
        raise InputError("q follows from the dense model that is named: leave it out")
    return Sweep(PairSweep(inquiry, columns, metrics, slopes).columns())


def _grid(over: Mapping[str, Sequence[float] | np.ndarray]) -> dict[str, np.ndarray]:
    """All combinations, one column an input."""
    values = [np.atleast_1d(np.asarray(each, dtype=float)) for each in over.values()]
    for name, each in zip(over, values, strict=True):
        if each.ndim > 1 or not each.size or not np.isfinite(each).all():
            raise InputError(f"over {name}: give one or more finite numbers in a row")
    rows = int(np.prod([each.size for each in values]))
    if rows > MOST_ROWS:
        raise InputError(f"{rows:,} rows: ask for {MOST_ROWS:,} at most, or in parts")
    grids = np.meshgrid(*values, indexing="ij")
    return {name: grid.ravel() for name, grid in zip(over, grids, strict=True)}


def _known(metrics: Sequence[str] | None, every: Sequence[str]) -> list[str]:
    """The metrics that are wanted.

    Raises:
        InputError: if there is no such metric.
    """
    for name in metrics or ():
        if name not in every:
            raise unknown_name("metric", name[:60], every)
    return list(metrics or every)


@in_float64
def _of_design(
    question: Question, columns: dict[str, np.ndarray], metrics: list[str], slopes: bool
) -> dict[str, np.ndarray]:
    """Rows whose model has the same sizes at once."""
    sizes = [name for name in columns if name in SIZES]
    free = [name for name in columns if name not in SIZES]
    rows = len(next(iter(columns.values())))
    keys = np.stack([columns[name] for name in sizes], axis=1) if sizes else np.zeros((rows, 1))
    found: dict[str, np.ndarray] = {}
    for key in np.unique(keys, axis=0):
        here = np.flatnonzero((keys == key).all(axis=1))
        model = changed(question.model, dict(zip(sizes, key.tolist(), strict=False)))
        asked = Question(model, question.service, question.deployment)
        part = _at_once(asked, {name: columns[name][here] for name in free}, len(here), metrics)
        if slopes:
            part |= _slopes_at_once(asked, {name: columns[name][here] for name in free})
        for name, values in part.items():
            found.setdefault(name, np.empty(rows, values.dtype))[here] = values
    return {**columns, **found}


def _reached(question: Question, numbers: dict[str, Any]) -> Any:
    """What the design reaches with other numbers."""
    there = moved(question, numbers)
    assert there.deployment is not None
    return compiled_metrics(there.model, there.service, there.deployment)


def _at_once(
    question: Question, free: dict[str, np.ndarray], rows: int, metrics: list[str]
) -> dict[str, np.ndarray]:
    def one(numbers: dict[str, Any]) -> dict[str, Any]:
        reached = _reached(question, numbers)
        return {name: getattr(reached, name) for name in metrics}

    if not free:
        return {name: np.repeat(np.asarray(value), rows) for name, value in one({}).items()}
    found = jax.jit(jax.vmap(one))(jax.tree.map(jnp.asarray, free))
    return {name: np.asarray(found[name]) for name in metrics}


def _slopes_at_once(question: Question, free: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    def throughput(numbers: dict[str, Any]) -> Any:
        return _reached(question, numbers).throughput

    if not free:
        return {}
    found = jax.jit(jax.vmap(jax.jacfwd(throughput)))(jax.tree.map(jnp.asarray, free))
    return {f"slope_throughput_{name}": np.asarray(found[name]) for name in free}
