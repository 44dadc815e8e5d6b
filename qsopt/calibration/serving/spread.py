"""How far predictions are off on models and accelerators that a fit has not seen, and whether
intervals made of it hold.

Every row is predicted four times: by constants fitted to all rows, to all but those of its model,
but those of its accelerator, and but both. The quantiles that a row's coverage is counted with come
from rows of other models (accelerators), each predicted by constants that saw neither that row's
model (accelerator) nor its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Protocol

import numpy as np

from qsopt.calibration.serving.cells import cells, nested
from qsopt.calibration.serving.served_run import model_name
from qsopt.fitted.errors import Column
from qsopt.fitted.spread import (
    INTERVALS,
    LEVELS,
    POOL,
    SEEN,
    SOFTWARE,
    Cell,
    Pairs,
    Spreads,
    regimes,
)

Left = tuple[frozenset[str], frozenset[str]]
"""Models and accelerators that a fit has not seen."""

NOBODY: Left = (frozenset(), frozenset())

_AXES = {
    "fitted": (False, False),
    "other_shapes": (True, False),
    "other_accelerators": (False, True),
    "neither": (True, True),
}
"""Whether a row's model and its accelerator are left out, by the names of `SEEN`."""

SOURCES = (SOFTWARE, POOL)
"""Whose values predict the rows: those of their software, or those pooled over software."""


def levels_of(
    software: np.ndarray, batch: Column, devices: Column, alone: bool = False
) -> dict[str, list[np.ndarray]]:
    """Cells of every row, widest first, by source.

    Args:
        software: its name.
        batch: sequences that a replica decodes at once.
        devices: of a replica.
        alone: whether results of other software say nothing about one.
    """

    def levels(names: np.ndarray) -> list[np.ndarray]:
        rows = zip(names, batch, devices, strict=True)
        cells_of_rows = [regimes(str(name), *place, alone=alone) for name, *place in rows]
        return [np.array(level) for level in zip(*cells_of_rows, strict=True)]

    return {SOFTWARE: levels(software), POOL: levels(np.full(len(software), POOL))}


class Fits(Protocol):
    """Rows, and fits to some of them."""

    model: np.ndarray
    gpu: np.ndarray
    regimes: dict[str, list[np.ndarray]]
    """Cells of every row, widest first, by source."""
    quantities: tuple[str, ...]

    def fit(self, wanted: Iterable[Left]) -> None:
        """Fit without these, where it is not done yet."""
        ...

    def errors(self, quantity: str, source: str, left: Left) -> Column:
        """log(measured / predicted) of every row; NaN where no such fit could be made."""
        ...


def rows_of(fits: Fits, left: Left) -> np.ndarray:
    """Rows of the models or accelerators that are left out."""
    return np.isin(fits.model, [*left[0]]) | np.isin(fits.gpu, [*left[1]])


def _parts(fits: Fits, seen: str) -> Iterator[tuple[np.ndarray, Left]]:
    """Rows that one fit predicts, with what it leaves out."""
    by_model, by_gpu = _AXES[seen]
    models = np.unique(fits.model) if by_model else [None]
    gpus = np.unique(fits.gpu) if by_gpu else [None]
    for model, gpu in product(models, gpus):
        rows = np.ones(len(fits.model), dtype=bool)
        rows &= (fits.model == model) if by_model else True
        rows &= (fits.gpu == gpu) if by_gpu else True
        if rows.any():
            left = [frozenset(() if one is None else (str(one),)) for one in (model, gpu)]
            yield rows, (left[0], left[1])


def unseen(fits: Fits, quantity: str, source: str, seen: str, without: Left) -> Column:
    """Errors of every row by the fit that did not see it, nor what is left out of all fits."""
    parts = [
        (rows, (left[0] | without[0], left[1] | without[1])) for rows, left in _parts(fits, seen)
    ]
    fits.fit(left for _, left in parts)
    found = np.full(len(fits.model), np.nan)
    for rows, left in parts:
        found[rows] = fits.errors(quantity, source, left)[rows]
    return found


def columns(
    fits: Fits, quantity: str, wanted: tuple[str, ...], without: Left = NOBODY
) -> dict[str, dict[str, Cell]]:
    """Cells by who saw the rows, of software and pooled; rows that are left out do not count."""
    found: dict[str, dict[str, Cell]] = {}
    labels = {"model": fits.model, "gpu": fits.gpu}
    for seen in wanted:
        groups = {name: labels[name] for name, by in zip(labels, _AXES[seen], strict=True) if by}
        found[seen] = {}
        for source in SOURCES:
            errors = unseen(fits, quantity, source, seen, without)
            errors = np.where(rows_of(fits, without), np.nan, errors)
            found[seen] |= cells(errors, fits.regimes[source], groups)
    return {seen: one for seen, one in nested(found).items() if one}


def spreads(fits: Fits, ratio: Mapping[str, Pairs]) -> Spreads:
    """Quantiles of the errors of every quantity, with how those of pairs go together."""
    return Spreads(
        models=tuple(sorted({model_name(str(name)) or "" for name in np.unique(fits.model)})),
        accelerators=tuple(map(str, np.unique(fits.gpu))),
        cells={name: columns(fits, name, SEEN) for name in fits.quantities},
        ratio=ratio,
    )


def coverage(fits: Fits) -> list[dict[str, Any]]:
    """Shares of rows inside their intervals, whose quantiles did not see the row's model, or its
    accelerator: one record for each quantity, source of values, and what is left out. Two groups
    are too few: without one there is nothing left to leave out.
    """
    records = [
        {
            "quantity": quantity,
            "source": source,
            "left_out": seen,
            **_shares(fits, quantity, source, seen, label),
        }
        for quantity in fits.quantities
        for seen, label in (("other_shapes", fits.model), ("other_accelerators", fits.gpu))
        for source in SOURCES
    ]
    return [record for record in records if record["n"]]


def _shares(fits: Fits, quantity: str, source: str, seen: str, label: np.ndarray) -> dict[str, Any]:
    """Rows, and the share of them inside the intervals: over all, and of each group."""
    errors, names = unseen(fits, quantity, source, seen, NOBODY), fits.regimes[source]
    quantiles = np.full((len(errors), len(LEVELS)), np.nan)
    for group in np.unique(label):
        one = frozenset((str(group),))
        without = (one, frozenset[str]()) if seen == "other_shapes" else (frozenset[str](), one)
        found = columns(fits, quantity, ("fitted", seen), without).get(seen, {})
        for row in np.flatnonzero((label == group) & np.isfinite(errors)):
            quantiles[row] = narrowest(found, [level[row] for level in names])
    known = np.isfinite(errors) & np.isfinite(quantiles[:, 0])
    if not known.any():
        return {"n": 0}
    inside = {
        name: (errors >= quantiles[:, low]) & (errors <= quantiles[:, high])
        for name, (low, high) in INTERVALS.items()
    }
    groups = {
        str(group): float(inside["80"][known & (label == group)].mean())
        for group in np.unique(label[known])
    }
    return {
        "n": int(known.sum()),
        **{f"coverage{name}": float(one[known].mean()) for name, one in inside.items()},
        "groups": groups,
    }


def narrowest(found: dict[str, Cell], keys: list[str]) -> Any:
    """Quantiles of the narrowest cell that there is; NaN without any."""
    return next((found[str(key)].quantiles for key in reversed(keys) if key in found), np.nan)
