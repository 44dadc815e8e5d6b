"""What a reader must know of a design: where it stands on a bound of its box and what lies beyond,
where it leaves what a law was fitted on or what was ever released, and what of the reference it
does not keep.
"""

from collections.abc import Sequence

import numpy as np

from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.boxes import Box, changed
from qsopt.proposals.configs import model_of
from qsopt.proposals.fields import tried
from qsopt.proposals.measures import MEASURES, off_step
from qsopt.proposals.points import Point, State
from qsopt.proposals.priors import DENSE, beyond, priors
from qsopt.proposals.sampling import legal, neighbours
from qsopt.quality import QualityLaw
from qsopt.quality.of_model import architecture, law_warnings
from qsopt.spec.model import moe_layers

WIDER = 1.25
"""A bound is moved by this factor, or by one step where that is more, to see what lies beyond."""

FREE = (
    "attention is free: no quality law here prices it, so less attention looks like a gain; judge "
    "the quality of this design by an experiment"
)

UNKNOWN_TOKENS = (
    "training tokens are not known: 1e12 stand for them, so training compute tells designs apart "
    "but is none in itself"
)

_TEXTS = {
    **{each.name: each.text for each in MEASURES},
    "shared": "shared experts",
    "leading": "leading dense layers",
    "kv": "KV heads, or the rank of latents",
}


def marks(
    state: State, designs: Sequence[Point], law: QualityLaw, tokens_known: bool, free: bool
) -> list[tuple[str, ...]]:
    """The marks of every design."""
    at_bounds = [_bounds(state, each) for each in designs]
    return [
        (
            *_kind(each),
            *bounds,
            *_released(state, each),
            *_fitted(state, each, law, tokens_known),
            *state.task.body.replaced,
            *((FREE,) if free else ()),
            *(() if tokens_known else (UNKNOWN_TOKENS,)),
        )
        for each, bounds in zip(designs, at_bounds, strict=True)
    ]


def _kind(design: Point) -> tuple[str, ...]:
    if design.family == DENSE:
        return ("dense: every token uses all of its feed-forward weights",)
    return ()


def _released(state: State, design: Point) -> list[str]:
    model = model_of(design.row, state.task.body)
    steps = [f"no multiple of 128: {text}" for text in off_step(model)]
    return beyond(model, priors(design.family)) + steps


def _fitted(state: State, design: Point, law: QualityLaw, tokens_known: bool) -> list[str]:
    model = model_of(design.row, state.task.body)
    if moe_layers(model) is None:
        return []
    seen = architecture(model, np.float64(design.quality.tokens))
    return [f"law {law.name} {text}" for text in law_warnings(law, seen, tokens_known)]


def _bounds(state: State, design: Point) -> list[str]:
    """Bounds that a design stands on, each with what a wider one would bring."""
    box = state.task.boxes[design.family]
    return [
        f"at the {side} bound of the search: {_TEXTS[name]} {bound:.4g}; "
        f"{_widened(state, design, box, name, side)}"
        for name, side, bound in box.at_bounds(design.row, design.quality)
    ]


def _widened(state: State, design: Point, box: Box, name: str, side: str) -> str:
    """What the best neighbour beyond one bound reaches."""
    wider = _with_wider(box, name, side)
    near = neighbours(design.row, wider, state.task.seed)
    task = state.task
    found = legal(near, wider, task.goal, task.body, np.full(len(near), design.factor))
    outside = ~box.holds(found.rows, found.quality) if len(found.rows) else np.zeros(0, bool)
    rows = found.rows[outside]
    if not len(rows):
        return "no neighbour beyond it has the quality asked for"
    every = state.choices[design.family].every
    limits = np.full(len(rows), design.limit)
    best = tried(task, rows, [every] * len(rows), limits).best.throughput.max()
    gain = best / design.throughput - 1.0
    if gain <= 0:
        return f"no neighbour beyond it is better (best {gain:+.1%})"
    return f"a wider bound would bring {gain:+.1%} at the next step"


def _with_wider(box: Box, name: str, side: str) -> Box:
    spans = box.bounds if name in box.bounds else box.ratios
    low, high = spans[name]
    step = box.steps.get(name, 1.0) if name in box.bounds else 0.0
    if side == "upper":
        return changed(box, **{name: (low, max(high * WIDER, high + step))})
    floor = step if name in ("layers", "hidden", "experts", "top_k", "kv") else 0.0
    floor = floor if name in box.bounds else 1e-3
    return changed(box, **{name: (max(min(low / WIDER, low - step), floor), high)})


def columns_of(design: Point) -> dict[str, float]:
    """The numbers of an architecture by name."""
    return dict(zip(COLUMNS, map(float, design.row), strict=True))
