"""Who wins over prompt and answer, for several sizes of the dense model and shares of the prompt
that are cached: what the sliders of a page go through.

Layouts and ways are those that are best at the question and at the four corners of the grid, for
every size of the dense model and for the MoE, each found exactly; of these, the best one is found
exactly at every point. What no corner uses is left out, so a point may serve a little more than it
says.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import Contender, draft_of, rival
from qsopt.comparison.dense import NAMED, RELEASED, MatchKind, dense_match, least_q
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import stack, take
from qsopt.maps.axes import FALLS, NO_TREND
from qsopt.maps.request_bounds import request_optima
from qsopt.maps.request_optima import RequestOptima
from qsopt.report.inquiry import Inquiry
from qsopt.report.page.sides import PageSides, moved
from qsopt.report.records.design import deployment_record
from qsopt.serving.replica import Served
from qsopt.serving.trials import Asked
from qsopt.serving.ways import SEARCHED
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

PROMPTS = 2.0 ** np.arange(9, 17)
"""Of the grid [tokens]."""

ANSWERS = 2.0 ** np.arange(6, 14)
"""Of the grid [tokens]."""

CACHED = (0.0, 0.5, 0.9)
"""Shares of the prompt that are cached."""

FACTORS = (0.5, 2.0**-0.5, 1.0, 2.0**0.5, 2.0)
"""Times the q of the question."""

CORNERS = ((0, 0), (0, -1), (-1, 0), (-1, -1))
"""Places in the grid at which layouts are looked for, beside the question."""


@dataclass(frozen=True)
class Size:
    """A dense model of the slider."""

    q: float
    what: str
    model: Model
    kind: MatchKind


def sizes(inquiry: Inquiry, match: Model) -> list[Size]:
    """The dense models of the slider: the one that was asked about, and matches that are smaller
    and larger; of released shape where it is one that exists.
    """
    q = inquiry.believe().q
    kind = RELEASED if inquiry.kind == NAMED else inquiry.kind
    least = float(least_q(inquiry.model, kind))
    held = inquiry.believe().interval
    qs = {q * factor for factor in FACTORS} if held is None else {q / 2.0, *held, q, 2.0 * q}
    found = []
    for each in sorted(value for value in qs if value > least or value == q):
        if each == q:
            name = inquiry.named is not None
            found.append(Size(q, "the named model" if name else "as asked", match, inquiry.kind))
        else:
            end = held is not None and each in held
            what = "end of the 80 % interval" if end else "made"
            found.append(Size(each, what, dense_match(inquiry.model, scalar(each), kind), kind))
    return found


def grid_record(sides: PageSides) -> dict[str, Any]:
    """The grid for every size and cached share: one row a point."""
    service = sides.inquiry.service
    match = sides.duel.dense.model
    options = sizes(sides.inquiry, match)
    moe = _side(sides.duel.moe, service)
    dense = [
        _side(_contender(sides, option, service), service, moe_like=sides.duel.moe.model)
        for option in options
    ]
    rows = [
        {"q_index": number, **_row(place, moe, one)}
        for number, one in enumerate(dense)
        for place in np.ndindex(len(CACHED), len(PROMPTS), len(ANSWERS))
    ]
    return {
        "prompts": PROMPTS.tolist(),
        "answers": ANSWERS.tolist(),
        "cached": list(CACHED),
        "q": [
            {"q": option.q, "what": option.what, "asked": option.model is match}
            for option in options
        ],
        "rows": rows,
    }


def _row(place: tuple[int, ...], moe: "_Filled", dense: "_Filled") -> dict[str, Any]:
    """A point: both sides there."""
    cached, prompt, answer = place
    there = cached * len(PROMPTS) + prompt, answer
    rates = moe.rate(*there), dense.rate(*there)
    return {
        "cached_index": cached,
        "prompt": float(PROMPTS[prompt]),
        "answer": float(ANSWERS[answer]),
        "verdict": verdict(*rates),
        "ratio": rates[1] / rates[0] if all(rates) else None,
        "moe_tokens_per_s": rates[0],
        "dense_tokens_per_s": rates[1],
        "moe_layout": moe.layout(*there),
        "dense_layout": dense.layout(*there),
    }


def _contender(sides: PageSides, option: Size, service: Service) -> Contender:
    if option.model is sides.duel.dense.model:
        return sides.duel.dense
    return rival(sides.duel, option.model, service, option.kind).dense


@dataclass(frozen=True)
class _Filled:
    """One side at all points of the grid."""

    contender: Contender
    optima: RequestOptima
    service: Service

    def rate(self, row: int, column: int) -> float:
        return float(self.optima.throughput[row, column])

    def layout(self, row: int, column: int) -> str | None:
        """In words; None where nothing keeps the limits."""
        best = self.optima
        if best.writes[row, column] < 0:
            return None
        way = ("mixed", "alternating", "two pools")[int(best.way[row, column])]
        return f"{way}; {self._words(int(best.writes[row, column]), row, column)}"

    def _words(self, candidate: int, row: int, column: int) -> str:
        layout = take(self.optima.candidates.layout, candidate)
        batch = self.optima.units[row, column] * layout.pipeline * layout.data
        layout = eqx.tree_at(lambda d: d.batch, layout, batch)
        return deployment_record(self.contender.model, self.service, layout, 1)["in_words"]


def _side(contender: Contender, service: Service, moe_like: Model | None = None) -> _Filled:
    """A side at every cached share, prompt and answer: the shares and prompts in one axis."""
    layouts, ways = _shortlist(contender, service)
    like = contender.model if moe_like is None else moe_like
    draft = draft_of(contender.model, service)
    served = Served(aligned(contender.model, like), service, draft)
    served = jax.tree.map(np.asarray, served)
    shape = len(CACHED) * len(PROMPTS), len(ANSWERS)
    questions = _questions(service, shape)
    trends = (NO_TREND, FALLS)
    optima = request_optima(served, layouts, questions, shape, trends, True, ways)
    return _Filled(contender, optima, service)


def _questions(service: Service, shape: tuple[int, int]) -> Asked:
    """All points in one row, the answer first."""
    count = shape[0] * shape[1]
    one = Asked(service.cluster, service.workload)
    many = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], count, axis=0), one)
    grids = np.meshgrid(CACHED, PROMPTS, ANSWERS, indexing="ij")
    for name, values in zip(("cached", "prompt", "answer"), grids, strict=True):
        many = eqx.tree_at(lambda q, name=name: getattr(q.workload, name), many, values.ravel())
    return many


def _shortlist(contender: Contender, service: Service) -> tuple[Deployment, tuple[str, ...]]:
    """Layouts and ways that are best at the question or at a corner; the first layout where none
    keeps the limits there.
    """
    corners = [{"prompt": PROMPTS[i], "answer": ANSWERS[j]} for i, j in CORNERS]
    best = [contender.best(moved(service, **there)) for there in ({}, *corners)]
    options = [option for option in best if option is not None]
    if not options:
        return take(contender.layouts, np.arange(1)), SEARCHED
    plans = [layout for option in options for layout in (option.plan.decode, option.plan.prefill)]
    layouts = stack([eqx.tree_at(lambda d: d.batch, layout, np.float64(1.0)) for layout in plans])
    sizes_of_each = np.stack([np.asarray(leaf) for leaf in jax.tree.leaves(layouts)], axis=1)
    _, first = np.unique(sizes_of_each, axis=0, return_index=True)
    ways = tuple(way for way in SEARCHED if way in {option.way for option in options})
    return take(layouts, np.sort(first)), ways
