"""How far served predictions are off: quantiles of log(measured / predicted), by regime and by who
was seen, and the intervals that they give.

They stand where the constants are that they belong to, under `spread`. A regime is a batch class, a
class of devices and a software; `pooled` stands for the set pooled over software. A quantile of a
cell of few rows is drawn to that of the wider cell that holds it, as the fit did (see
`calibration.serving.cells`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from jaxtyping import Float

from qsopt.files import read_text, read_toml, understood, write_text
from qsopt.fitted.generations import generation
from qsopt.fitted.groups import WRITTEN, digits, shipped

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Probabilities of the quantiles."""

NORMAL = (-1.2816, -0.6745, 0.0, 0.6745, 1.2816)
"""The same quantiles of a normal distribution."""

INTERVALS = {"50": (1, 3), "80": (0, 4)}
"""Central intervals in percent, by the places of their ends in `LEVELS`."""

MIDDLE = 2
"""Place of the median in `LEVELS`."""

SEEN = ("fitted", "other_shapes", "other_accelerators", "neither")
"""Who saw a row: a fit to all, one without its model, one without its accelerator, one without
both.
"""

SOFTWARE, POOL = "software", "pooled"
"""The widest cells: of sets of one software, and of the set pooled over software."""

JOULES = "joules_per_token"
"""The quantity of which one software was measured."""

Quantiles = Float[np.ndarray, " levels"]

_BATCHES = ((4, "batch 1-4"), (16, "batch 5-16"), (64, "batch 17-64"), (np.inf, "batch above 64"))
_DEVICES = ((1, "1 device"), (4, "2-4 devices"), (np.inf, "5 or more devices"))
"""Classes by their largest member: sequences that a replica decodes at once, and its devices."""


@dataclass(frozen=True)
class Cell:
    """What was measured in one regime."""

    rows: int
    quantiles: Quantiles
    """Of log(measured / predicted), at `LEVELS`."""


@dataclass(frozen=True)
class Pairs:
    """How the errors of an MoE and a dense model in the same regime go together."""

    correlation: float
    """Of their log errors in tokens per second."""
    lean: float
    """Median log of the measured over the predicted ratio, dense over MoE."""
    pairs: int
    models: int
    """MoE models in them."""


@dataclass(frozen=True)
class Spreads:
    """All that a fit says about how far its predictions are off."""

    models: tuple[str, ...]
    """Models that it saw, by the names of the catalog."""
    accelerators: tuple[str, ...]
    """Accelerators that it saw."""
    cells: Mapping[str, Mapping[str, Mapping[str, Cell]]] = field(default_factory=dict)
    """By quantity, who saw the rows, and regime."""
    ratio: Mapping[str, Pairs] = field(default_factory=dict)
    """Of an MoE and a dense model, by the widest cell of their sets."""

    def seen(self, model: str | None, accelerator: str | None) -> str:
        """Which of `SEEN` stands for a model on an accelerator."""
        known = (model in self.models, accelerator in self.accelerators)
        return SEEN[(not known[0]) + 2 * (not known[1])]

    def known_generation(self, accelerator: str | None) -> bool:
        """Whether a server was measured on accelerators like this one."""
        return accelerator is not None and generation(accelerator) in map(
            generation, self.accelerators
        )

    def cell(self, quantity: str, seen: str, keys: Iterable[str]) -> tuple[str, Cell] | None:
        """The narrowest cell that was measured, with its name; None without evidence.

        Args:
            quantity: name.
            seen: of `SEEN`.
            keys: regimes that a row stands in, widest first (see `regimes`).
        """
        cells = self.cells.get(quantity, {}).get(seen, {})
        return next(((key, cells[key]) for key in reversed([*keys]) if key in cells), None)


def batch_class(batch: float) -> str:
    """The class of a number of sequences that a replica decodes at once."""
    return next(name for most, name in _BATCHES if batch <= most)


def devices_class(devices: float) -> str:
    """The class of a number of devices of a replica."""
    return next(name for most, name in _DEVICES if devices <= most)


def regimes(software: str, batch: float, devices: float, alone: bool = False) -> tuple[str, ...]:
    """Cells that a run stands in, widest first.

    Args:
        software: its name, or `POOL` for a set that is no software's.
        batch: sequences that a replica decodes at once.
        devices: of a replica.
        alone: whether results of other software say nothing about this one.
    """
    where = f"{batch_class(batch)}, {devices_class(devices)}"
    own = f"{software}, {where}"
    if alone or software == POOL:
        return (software, own)
    return (SOFTWARE, f"{SOFTWARE}, {where}", own)


def widened(quantiles: Quantiles, deviation: float) -> Quantiles:
    """Quantiles with an independent normal error of that standard deviation added to their
    distances from the median.
    """
    middle = quantiles[MIDDLE]
    added = np.array(NORMAL) * deviation
    return middle + np.sign(NORMAL) * np.hypot(quantiles - middle, added)


def interval(value: float, quantiles: Quantiles) -> dict[str, list[float]]:
    """Where the measurement of a predicted value is expected, by percent of a central interval."""
    return {
        name: [float(value * np.exp(quantiles[low])), float(value * np.exp(quantiles[high]))]
        for name, (low, high) in INTERVALS.items()
    }


def inverse(quantiles: Quantiles) -> Quantiles:
    """Quantiles of the error of a reciprocal."""
    return -quantiles[::-1]


def ratio_quantiles(over: Quantiles, under: Quantiles, pairs: Pairs) -> Quantiles:
    """Quantiles of the log error of a ratio of two speeds whose errors are correlated.

    Distances from the median add as those of two normal distributions do, each on its own side;
    the median is moved by what measured pairs lean, drawn to zero by models/(models + 1).

    Args:
        over: of the speed above the line.
        under: of the speed below it.
        pairs: as measured.
    """
    middle = over[MIDDLE] - under[MIDDLE] + pairs.lean * pairs.models / (pairs.models + 1)
    up, down = over - over[MIDDLE], inverse(under - under[MIDDLE])
    product = 2.0 * pairs.correlation * np.abs(up * down)
    return middle + np.sign(NORMAL) * np.sqrt(np.maximum(up**2 + down**2 - product, 0.0))


def at_normal(
    quantiles: Quantiles, normal: Float[np.ndarray, " draws"]
) -> Float[np.ndarray, " draws"]:
    """What standard normal draws stand for among these quantiles: straight lines between them and
    beyond the outer ones.
    """
    steps = np.diff(quantiles) / np.diff(NORMAL)
    inside = np.interp(normal, NORMAL, quantiles)
    below, above = np.minimum(normal - NORMAL[0], 0.0), np.maximum(normal - NORMAL[-1], 0.0)
    return inside + below * steps[0] + above * steps[-1]


# ---- files ---------------------------------------------------------------------------------------


def add_spreads(spreads: Spreads, path: Path) -> None:
    """Write spreads into a file of constants, in place of those that it has.

    Raises:
        InputError: if the file cannot be written.
    """
    document = tomlkit.parse(read_text(path, WRITTEN))
    table = tomlkit.table()
    table.add(tomlkit.comment("Lists are [rows, quantiles of log(measured/predicted) at levels]."))
    table.add("levels", list(LEVELS))
    table.add("models", list(spreads.models))
    table.add("accelerators", list(spreads.accelerators))
    table.add("ratio", {source: _pairs_table(one) for source, one in spreads.ratio.items()})
    for quantity, columns in spreads.cells.items():
        table.add(quantity, {seen: _lists(cells) for seen, cells in columns.items()})
    document["spread"] = table
    write_text(path, tomlkit.dumps(document))


def _pairs_table(pairs: Pairs) -> dict[str, float]:
    rounded = {"correlation": digits(pairs.correlation), "lean": digits(pairs.lean)}
    return {**rounded, "pairs": pairs.pairs, "models": pairs.models}


def _lists(cells: Mapping[str, Cell]) -> dict[str, list[float]]:
    return {
        key: [cell.rows, *(round(float(value), 4) for value in cell.quantiles)]
        for key, cell in cells.items()
    }


def load_spreads(path: Path) -> Spreads | None:
    """Read the spreads of a file of constants; None if it has none.

    Raises:
        InputError: if they cannot be read.
    """
    table = read_toml(path, WRITTEN).get("spread")
    with understood(path, WRITTEN):
        return None if table is None else _spreads(table)


def _spreads(table: dict[str, Any]) -> Spreads:
    if tuple(table["levels"]) != LEVELS:
        raise ValueError(f"levels are not {', '.join(map(str, LEVELS))}")
    named = {"levels", "models", "accelerators", "ratio"}
    cells = {
        quantity: {
            seen: {key: Cell(int(one[0]), np.array(one[1:], float)) for key, one in rows.items()}
            for seen, rows in columns.items()
        }
        for quantity, columns in table.items()
        if quantity not in named
    }
    ratio = {source: Pairs(**one) for source, one in table.get("ratio", {}).items()}
    return Spreads(tuple(table["models"]), tuple(table["accelerators"]), cells, ratio)


@cache
def shipped_spreads(name: str = "serving") -> Spreads | None:
    """The spreads that ship with the constants of that name."""
    return load_spreads(shipped(name))
