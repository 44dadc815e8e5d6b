"""Shapes of released models: the range of every measure over the catalog.

A search stays where 95 % of the catalog's models lie; the whole range and the models at its ends
stand beside, so that a design that leaves it can be told what it leaves. Nothing here is typed: the
ranges follow from the configs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from qsopt.catalog.models import load_model, model_names
from qsopt.proposals.measures import MEASURES, measures
from qsopt.spec.model import Model

COVERED = 0.95
"""Share of the released models that the range of a search covers."""

DENSE, MOE = "dense", "moe"
"""Families of models."""


@dataclass(frozen=True)
class Range:
    """Values of one measure over released models."""

    low: float
    """Where `COVERED` of the models begin."""
    high: float
    """Where they end."""
    least: float
    """Of all."""
    most: float
    lowest: str
    """The model with the least."""
    highest: str
    models: int

    def holds(self, value: float) -> bool:
        """Whether some released model goes as far."""
        return self.least * (1.0 - _ROUNDING) <= value <= self.most * (1.0 + _ROUNDING)


_ROUNDING = 1e-9

Priors = Mapping[str, Range]
"""Ranges by the names of measures."""


@cache
def shapes() -> Mapping[str, Mapping[str, float]]:
    """Measures of every decoder of the catalog, by its name."""
    models = {name: load_model(name) for name in model_names()}
    rows = {name: measures(model) for name, model in models.items() if model.encoder is None}
    law = _fitted(rows)
    return {
        name: {**row, "layers_for_size": row["layers"] / law.layers(row["size"])}
        for name, row in rows.items()
    }


@dataclass(frozen=True)
class Depth:
    """Layers that are usual for a size: a power law, fitted in logs to the catalog's decoders."""

    at: float
    """Layers of a model of 1e11 parameters."""
    growth: float
    """d log layers / d log size."""

    def layers(self, size):
        """Of a size, the geometric mean of total and active parameters."""
        return self.at * (size / 1e11) ** self.growth


def _fitted(rows: Mapping[str, Mapping[str, float]]) -> Depth:
    size, layers = (np.log([row[name] for row in rows.values()]) for name in ("size", "layers"))
    growth, at = np.polyfit(size - np.log(1e11), layers, 1)
    return Depth(float(np.exp(at)), float(growth))


@cache
def depth() -> Depth:
    """The law of the catalog."""
    return _fitted(shapes())


@cache
def priors(family: str) -> Priors:
    """Ranges over the catalog's models of a family, `dense` or `moe`; of both for what both have.

    The number of layers and of heads, and what follows from them, is taken over all models: MoE
    and dense decoders are cut alike, and the family with more releases would else allow more.
    """
    own = {DENSE: ("width_over_hidden",), MOE: _ROUTED}[family]
    names = [each.name for each in MEASURES if each.name not in _PRIVATE or each.name in own]
    return {name: _range(name) for name in names}


_ROUTED = (
    "active_width_over_hidden",
    "granularity",
    "active_share",
    "experts",
    "top_k",
    "shared_experts",
    "leading_dense",
)
_PRIVATE = {"width_over_hidden", *_ROUTED}
"""Measures that one family has."""


@cache
def _range(name: str) -> Range:
    values = {model: row[name] for model, row in shapes().items() if name in row}
    ordered = sorted(values, key=lambda model: (values[model], model))
    numbers = np.array([values[model] for model in ordered])
    tail = (1.0 - COVERED) / 2.0
    low, high = np.quantile(numbers, [tail, 1.0 - tail], method="closest_observation")
    ends = ordered[0], ordered[-1]
    return Range(
        float(low), float(high), float(numbers[0]), float(numbers[-1]), *ends, len(ordered)
    )


def beyond(model: Model, known: Priors) -> list[str]:
    """What of a model no released model has, in words."""
    found = measures(model)
    found["layers_for_size"] = found["layers"] / depth().layers(found["size"])
    texts = {each.name: each.text for each in MEASURES}
    return [
        f"outside released shapes: {texts[name]} {value:.4g}, released {span.least:.4g} "
        f"({span.lowest}) to {span.most:.4g} ({span.highest})"
        for name, value in found.items()
        if (span := known.get(name)) is not None and not span.holds(value)
    ]
