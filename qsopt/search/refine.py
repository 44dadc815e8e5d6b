"""From the ends of the relaxed search to legal designs, and from these to relaxed optima in legal
layouts and back.

Relaxed points are rounded to legal neighbours. In the layouts of the best of these, architecture
and batch descend once more as real numbers, to convergence; where that ends is rounded too, and the
best design so far is improved.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qsopt.search.evaluator import Designs, Evaluator
from qsopt.search.gradient import Ends
from qsopt.search.polish import Polished, polished
from qsopt.search.relaxed import Relaxed
from qsopt.search.rounding import improved, near_layouts, rounded
from qsopt.search.variables import row_values, rows_of
from qsopt.spec.deployment import Deployment

ROUNDED = 16
"""Relaxed points that are rounded."""

APART = 0.02
"""Distance, of the way between a variable's bounds, from which on two relaxed architectures are
two.
"""

LAYOUTS = 8
"""Legal layouts in which architecture and batch descend again."""

SMALLEST = 256
"""Models tried where rounding meets no design that keeps the constraints."""


@dataclass(frozen=True)
class Refined:
    """The answer of a search, and the relaxed optima beside it."""

    answer: Designs | None
    """One design; None where nothing is feasible."""
    relaxed: tuple[Polished, ...]
    """Relaxed optima in legal layouts, none where the worst architecture is asked for."""
    beside: Polished | None = None
    """The relaxed optimum in the layout of the answer."""

    @property
    def log_objective(self) -> float:
        """At the best of the relaxed optima; -inf without any."""
        return max((optimum.log_objective for optimum in self.relaxed), default=-np.inf)


def refine(evaluator: Evaluator, relaxed: Relaxed, ends: Ends) -> Refined:
    """The best legal design in reach of the relaxed search."""
    starts = [relaxed.named(ends.points[index]) for index in _diverse(relaxed, ends)]
    near = _rounded(evaluator, starts)
    if near is None or not near.any_feasible:
        near = _smallest_models(evaluator)
    if near is None:
        return Refined(None, ())
    if evaluator.problem.minimize:
        return Refined(improved(evaluator, near), ())
    optima = _polished(evaluator, relaxed, near)
    again = _rounded(evaluator, [optimum.values for optimum in optima])
    if again is not None and again.merits[again.index] > near.merits[near.index]:
        near = again
    answer = improved(evaluator, near)
    beside = polished_at(evaluator, relaxed, answer)
    return Refined(answer, (*optima, *_with_exact_dense(evaluator, [beside])), beside)


def _rounded(evaluator: Evaluator, values: Sequence[dict[str, float]]) -> Designs | None:
    """Legal neighbours of relaxed designs, in the best of the layouts near theirs."""
    if not values:
        return None
    points = rows_of(evaluator.problem.architecture, values)
    return rounded(evaluator, points, near_layouts(evaluator.scorer.layouts, values))


def _diverse(relaxed: Relaxed, ends: Ends) -> list[int]:
    """Starts to be rounded: the best first, passing over those whose architecture is that of a
    better one.
    """
    order = [int(index) for index in np.argsort(ends.costs, kind="stable")]
    kept: list[int] = []
    for index in order:
        points = ends.points[:, relaxed.is_architecture]
        if all(np.abs(points[index] - points[other]).max(initial=0.0) > APART for other in kept):
            kept.append(index)
    rest = [index for index in order if index not in kept]
    return (kept + rest)[:ROUNDED]


def _smallest_models(evaluator: Evaluator) -> Designs | None:
    """The smallest models of a thinned grid; None where none of them is feasible."""
    admission = evaluator.admission
    rows = admission.narrowest(admission.thinned_grid())
    if not len(rows):
        return None
    smallest = np.argsort(admission.sizes(rows).total, kind="stable")[:SMALLEST]
    designs = evaluator.designs(rows[smallest])
    return designs if designs.any_feasible else None


# ---- relaxed again, in legal layouts -------------------------------------------------------------


def polished_at(evaluator: Evaluator, relaxed: Relaxed, design: Designs) -> Polished | None:
    """The relaxed optimum in the layout of one legal design, from that design."""
    deployment = design.deployment
    values = row_values(evaluator.problem.architecture, design.rows[0])
    return polished(relaxed, values | {"batch": float(deployment.batch)}, deployment)


def _polished(evaluator: Evaluator, relaxed: Relaxed, near: Designs) -> tuple[Polished, ...]:
    """In the layouts of the best designs."""
    starts: dict[tuple[float, ...], Designs] = {}
    for design in (near.single(index) for index in near.ranked()):
        if design.any_feasible and len(starts) < LAYOUTS:
            starts.setdefault(_sizes_and_way(design.deployment), design)
    return _with_exact_dense(
        evaluator, (polished_at(evaluator, relaxed, design) for design in starts.values())
    )


def _with_exact_dense(
    evaluator: Evaluator, optima: Iterable[Polished | None]
) -> tuple[Polished, ...]:
    """The optima that exist; for an advantage, with the dense side's own optimum instead of its
    curve.
    """
    existing = [optimum for optimum in optima if optimum is not None]
    curve = evaluator.curve
    if curve is None or not existing:
        return tuple(existing)
    rows = rows_of(evaluator.problem.architecture, [optimum.values for optimum in existing])
    sizes = np.asarray(evaluator.admission.sizes(rows).match)
    return tuple(
        replace(
            optimum,
            log_objective=optimum.log_objective + float(curve.at(size)) - float(np.log(throughput)),
        )
        for optimum, size, throughput in zip(
            existing, sizes, evaluator.dense.throughputs(sizes), strict=True
        )
        if throughput > 0
    )


def _sizes_and_way(layout: Deployment) -> tuple[float, ...]:
    """What tells two layouts apart."""
    attention = layout.tensor, layout.data, layout.pipeline, layout.dcp
    experts = layout.expert, layout.dispatched
    return tuple(float(size) for size in (*attention, *experts))
