"""From the ends of the relaxed search to legal designs, and from these to relaxed optima in legal
layouts and back.

Relaxed points are rounded to legal neighbours. In the layouts of the best of these, architecture
and batch descend once more as real numbers, to convergence; what that finds is rounded too, and the
best design so far is improved.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np

from qsopt.search.conflicts import coarse
from qsopt.search.gradient import Found
from qsopt.search.judge import Judge, Verdicts
from qsopt.search.polish import Polished, polished
from qsopt.search.relaxed import Relaxed
from qsopt.search.rounding import improved, near_layouts, rounded
from qsopt.spec.deployment import Deployment

TAKEN = 16
"""Relaxed points that are rounded."""

APART = 0.02
"""Distance, of the way between a variable's bounds, from which on two relaxed architectures are
two.
"""

LAYOUTS = 8
"""Legal layouts in which architecture and batch descend again."""

SMALLEST = 256
"""Models tried where rounding finds no design that keeps the constraints."""


@dataclass(frozen=True)
class Legal:
    """The answer of a search, and the relaxed optima beside it."""

    answer: Verdicts | None
    """One design; None where nothing is feasible."""
    relaxed: tuple[Polished, ...]
    """Relaxed optima in legal layouts, none where the worst architecture is asked for."""
    beside: Polished | None = None
    """The relaxed optimum in the layout of the answer."""

    @property
    def most(self) -> float:
        """Log of what is wanted at the best of the relaxed optima."""
        return max((each.wanted for each in self.relaxed), default=-np.inf)


def legal(judge: Judge, relaxed: Relaxed, found: Found) -> Legal:
    """The best legal design in reach of the relaxed search."""
    near = _rounded(
        judge, [relaxed.named(found.points[index]) for index in _diverse(relaxed, found)]
    )
    if near is None or not np.isfinite(near.merits).any():
        near = _coarse(judge)
    if near is None:
        return Legal(None, ())
    if judge.problem.minimize:
        return Legal(improved(judge, near), ())
    optima = _polished(judge, relaxed, near)
    again = _rounded(judge, [each.values for each in optima])
    if again is not None and again.merits[again.index] > near.merits[near.index]:
        near = again
    answer = improved(judge, near)
    beside = polished_at(judge, relaxed, answer)
    return Legal(answer, (*optima, *_scored(judge, [beside])), beside)


def _rounded(judge: Judge, values: list[dict[str, float]]) -> Verdicts | None:
    """Legal neighbours of relaxed designs, judged in the layouts near theirs."""
    names = [each.name for each in judge.problem.architecture]
    points = np.array([[each[name] for name in names] for each in values]).reshape(
        len(values), len(names)
    )
    return rounded(judge, points, near_layouts(judge.scorer.layouts, values)) if values else None


def _diverse(relaxed: Relaxed, found: Found) -> list[int]:
    """Starts to be rounded: the best first, passing over those whose architecture is that of a
    better one.
    """
    order = [int(index) for index in np.argsort(found.merits, kind="stable")]
    kept: list[int] = []
    for index in order:
        columns = found.points[:, relaxed.is_architecture]
        if all(np.abs(columns[index] - columns[other]).max(initial=0.0) > APART for other in kept):
            kept.append(index)
    rest = [index for index in order if index not in kept]
    return (kept + rest)[:TAKEN]


def _coarse(judge: Judge) -> Verdicts | None:
    """The smallest models of a thinned grid; None where none of them is feasible."""
    rows = judge.admission.narrowest(coarse(judge.admission))
    if not len(rows):
        return None
    smallest = np.argsort(judge.admission.sizes(rows)[:, 2], kind="stable")[:SMALLEST]
    judged = judge.judge(rows[smallest])
    return judged if np.isfinite(judged.merits).any() else None


# ---- relaxed again, in legal layouts -------------------------------------------------------------


def polished_at(judge: Judge, relaxed: Relaxed, design: Verdicts) -> Polished | None:
    """The relaxed optimum in the layout of one legal design, from that design."""
    deployment = jax.tree.map(lambda leaf: np.asarray(leaf)[0], design.best.deployment)
    names = [each.name for each in judge.problem.architecture]
    values = dict(zip(names, map(float, design.rows[0]), strict=True)) | {
        "batch": float(deployment.batch)
    }
    return polished(relaxed, values, deployment)


def _polished(judge: Judge, relaxed: Relaxed, near: Verdicts) -> tuple[Polished, ...]:
    """In the layouts of the best designs."""
    order = [
        int(index)
        for index in np.argsort(-near.merits, kind="stable")
        if np.isfinite(near.merits[index])
    ]
    designs, seen = [], set()
    for design in (near.one(index) for index in order):
        layout = _layout_of(design.best.deployment)
        if layout not in seen and len(seen) < LAYOUTS:
            seen.add(layout)
            designs.append(design)
    return _scored(judge, [polished_at(judge, relaxed, design) for design in designs])


def _scored(judge: Judge, found: list[Polished | None]) -> tuple[Polished, ...]:
    """Those that were found; for an advantage, with the dense side's own optimum instead of its
    curve.
    """
    optima = [each for each in found if each is not None]
    if judge.curve is None or not optima:
        return tuple(optima)
    names = [each.name for each in judge.problem.architecture]
    widths = judge.admission.sizes(
        np.array([[each.values[name] for name in names] for each in optima])
    )[:, 4]
    exact = judge.dense.throughputs(widths)
    return tuple(
        replace(each, wanted=each.wanted + float(judge.curve.at(width)) - float(np.log(dense)))
        for each, width, dense in zip(optima, widths, exact, strict=True)
        if dense > 0
    )


def _layout_of(deployment: Deployment) -> tuple[float, ...]:
    """The sizes and the way of the first of a batch of deployments."""
    fields = (
        deployment.tensor,
        deployment.data,
        deployment.pipeline,
        deployment.expert,
        deployment.dispatched,
    )
    return tuple(float(np.asarray(leaf)[0]) for leaf in fields)
