"""Which architectures a search may look at: those of released shapes whose width has the quality
asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from qsopt.errors import InputError, exactly
from qsopt.proposals.architecture import COLUMNS, is_dense, query_heads
from qsopt.proposals.bodies import GROUPED, Body, plain_body
from qsopt.proposals.goals import Quality
from qsopt.proposals.measures import STEP
from qsopt.proposals.priors import DENSE, MOE, depth, priors

Table = Float[np.ndarray, "designs columns"]
"""Architectures as rows (see `architecture.COLUMNS`)."""

EXPERT_STEP = 8
"""Numbers of experts are multiples of this, so that they spread over ranks."""

_COMMON = ("hidden_over_layers", "layers_for_size", "attention_share")

RATIOS = {
    MOE: (*_COMMON, "active_width_over_hidden", "granularity", "active_share"),
    DENSE: (*_COMMON, "width_over_hidden"),
}
"""Measures that tie numbers of an architecture together."""


@dataclass(frozen=True)
class Box:
    """Bounds of one family."""

    family: str
    bounds: Mapping[str, tuple[float, float]]
    """Of each number of an architecture but its width."""
    ratios: Mapping[str, tuple[float, float]]
    steps: Mapping[str, float] = field(default_factory=dict)
    """Legal values are multiples of these."""
    body: Body = field(default_factory=plain_body)
    """What the architectures have in common."""

    def column(self, rows: Table, name: str) -> Float[np.ndarray, " designs"]:
        """One number of every architecture."""
        return rows[:, COLUMNS.index(name)]

    def measured(self, rows: Table, quality: Quality) -> dict[str, Float[np.ndarray, " designs"]]:
        """Ratios of every architecture."""
        get = {name: self.column(rows, name) for name in COLUMNS}
        size = np.sqrt(np.asarray(quality.total) * np.asarray(quality.active))
        found = {
            "hidden_over_layers": get["hidden"] / get["layers"],
            "layers_for_size": get["layers"] / depth().layers(size),
            "attention_share": np.asarray(quality.attention) / np.asarray(quality.active),
        }
        if "heads_over_hidden" in self.ratios:
            heads = np.asarray(query_heads(get["hidden"], self.body, get["kv"]))
            found["heads_over_hidden"] = heads * self.body.head_dim / get["hidden"]
        if self.family == DENSE:
            return {**found, "width_over_hidden": get["width"] / get["hidden"]}
        active = get["top_k"] + get["shared"]
        return {
            **found,
            "active_width_over_hidden": active * get["width"] / get["hidden"],
            "granularity": 2.0 * get["hidden"] / np.maximum(get["width"], 1.0),
            "active_share": active / (get["experts"] + get["shared"]),
        }

    def shaped(self, rows: Table) -> Bool[np.ndarray, " designs"]:
        """Which architectures lie inside, their widths aside."""
        inside = np.ones(len(rows), bool)
        for name, (low, high) in self.bounds.items():
            value = self.column(rows, name)
            step = self.steps.get(name, 1.0)
            inside &= (value >= low) & (value <= high) & (value % step == 0)
        hidden, layers = self.column(rows, "hidden"), self.column(rows, "layers")
        inside &= self._within("hidden_over_layers", hidden / np.maximum(layers, 1.0))
        if self.family != DENSE:
            shared = self.column(rows, "shared")
            active = self.column(rows, "top_k") + shared
            every = np.maximum(self.column(rows, "experts") + shared, 1.0)
            inside &= self._within("active_share", active / every)
        inside &= self.column(rows, "leading") < self.column(rows, "layers")
        return inside & (is_dense(rows) == (self.family == DENSE))

    def holds(self, rows: Table, quality: Quality) -> Bool[np.ndarray, " designs"]:
        """Which architectures lie inside."""
        inside = self.shaped(rows) & (self.column(rows, "width") % self.width_step == 0)
        for name, value in self.measured(rows, quality).items():
            inside &= self._within(name, value)
        return inside & (self.column(rows, "width") > 0)

    def _within(self, name: str, value: np.ndarray) -> Bool[np.ndarray, " designs"]:
        low, high = self.ratios[name]
        return (value >= low * (1 - _ROUNDING)) & (value <= high * (1 + _ROUNDING))

    @property
    def width_step(self) -> float:
        """Widths are multiples of this."""
        return self.steps.get("width", float(STEP))

    def at_bounds(
        self, row: Float[np.ndarray, " columns"], quality: Quality
    ) -> list[tuple[str, str, float]]:
        """Numbers that stand on a bound: name, `lower` or `upper`, and the bound. Of a number that
        cannot move nothing is said, nor of the least that there is.
        """
        found = []
        for name, (low, high) in self.bounds.items():
            value, floor = row[COLUMNS.index(name)], _LEAST.get(name, 0.0)
            if low == high:
                continue
            if value == high:
                found.append((name, "upper", high))
            elif value == low and low > floor:
                found.append((name, "lower", low))
        return found + self._near_ratios(row, quality)

    def _near_ratios(
        self, row: Float[np.ndarray, " columns"], quality: Quality
    ) -> list[tuple[str, str, float]]:
        """Ratios that one step more of the width, or of the layers, would push outside."""
        found = []
        for name, value in self.measured(row[None], quality).items():
            low, high = self.ratios[name]
            slack = _STEPS_OFF * (self.width_step / row[COLUMNS.index("width")])
            if np.ravel(value)[0] <= low * (1 + slack):
                found.append((name, "lower", low))
            elif np.ravel(value)[0] >= high * (1 - slack):
                found.append((name, "upper", high))
        return found


_ROUNDING = 1e-9
_STEPS_OFF = 0.5
"""Steps of the width within which a ratio counts as on its bound."""

_LEAST = {"shared": 0.0, "leading": 0.0, "top_k": 1.0, "layers": 1.0}
"""What no model can have less of."""


def box_of(family: str, body: Body, free_attention: bool = False) -> Box:
    """The usual box of a family: what 95 % of released models keep to."""
    known = priors(family)
    spans = {name: (known[name].low, known[name].high) for name in known}
    hidden = _stepped(spans["hidden"], STEP)
    bounds = {"layers": spans["layers"], "hidden": hidden, "kv": _kv_bounds(body, free_attention)}
    steps = {"hidden": float(STEP), "layers": 1.0, "width": float(STEP)}
    steps["kv"] = 1.0 if body.attention == GROUPED else 64.0
    if family == DENSE:
        bounds |= {"experts": (1, 1), "top_k": (1, 1), "shared": (0, 0), "leading": (0, 0)}
    else:
        shared = spans["shared_experts"]
        least = shared[0] if body.attention == GROUPED else max(1.0, shared[0])
        bounds |= {
            "experts": _stepped(spans["experts"], EXPERT_STEP),
            "top_k": spans["top_k"],
            "shared": (least, shared[1]),
            "leading": (0.0, _MOST_LEADING),
        }
        steps["experts"] = float(EXPERT_STEP)
    ratios = {name: spans[name] for name in RATIOS[family]}
    if body.attention == GROUPED:
        low, high = spans["heads_over_hidden"]
        own = body.heads_over_hidden * body.head_dim
        ratios["heads_over_hidden"] = (min(low, own), max(high, own))
    spans = {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
    return Box(family, spans, ratios, steps, body)


def including(box: Box, row: Float[np.ndarray, " columns"], quality: Quality) -> Box:
    """The box, made wide enough for one architecture of its family."""
    if bool(is_dense(row)) != (box.family == DENSE):
        return box
    wider = {}
    for name, value in zip(COLUMNS, row, strict=True):
        if name in box.bounds:
            low, high = box.bounds[name]
            wider[name] = (min(low, float(value)), max(high, float(value)))
    for name, values in box.measured(row[None], quality).items():
        low, high = box.ratios[name]
        wider[name] = (min(low, float(np.ravel(values)[0])), max(high, float(np.ravel(values)[0])))
    return changed(box, **wider)


_MOST_LEADING = 4.0
"""Leading dense layers; more of them beside routed ones are alternate layers, another class."""


def _kv_bounds(body: Body, free: bool) -> tuple[float, float]:
    """KV heads or rank of latents: the reference's, or a factor of four to either side."""
    if not free:
        return float(body.kv), float(body.kv)
    return max(1.0, body.kv / 4.0), body.kv * 4.0


def _stepped(span: tuple[float, float], step: float) -> tuple[float, float]:
    """The range that multiples of a step have in it."""
    return step * np.ceil(span[0] / step), step * np.floor(span[1] / step)


def changed(box: Box, **spans: tuple[float, float]) -> Box:
    """The box with other bounds or ratios.

    Raises:
        InputError: if there is no such number, or its range is empty.
    """
    bounds, ratios = dict(box.bounds), dict(box.ratios)
    for name, (low, high) in spans.items():
        if not low <= high:
            raise InputError(
                f"{name} = {exactly(low)}:{exactly(high)}: the lower bound comes first"
            )
        if name in bounds:
            bounds[name] = (float(low), float(high))
        elif name in ratios:
            ratios[name] = (float(low), float(high))
        else:
            known = ", ".join((*bounds, *ratios))
            raise InputError(f"no bound '{name}' for {box.family} models; there are {known}")
    return Box(box.family, bounds, ratios, box.steps, box.body)
