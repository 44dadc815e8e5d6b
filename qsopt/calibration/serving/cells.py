"""Quantiles of log errors by regime, of few rows drawn to those of many.

A cell's quantiles are n/(n + `WEIGHT`) of its own and the rest of the wider cell that holds it.
Those of models or accelerators that a fit did not see are moved away from their median by
sqrt(1 + 1/groups): the next group's own median is as unknown as those of the groups are apart.
Nobody errs less where less was seen: quantiles of the less seen hold those of the more seen.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from qsopt.fitted.errors import Column
from qsopt.fitted.spread import LEVELS, MIDDLE, SEEN, Cell, Quantiles

WEIGHT = 200.0
"""Rows at which a cell counts as much as the one that holds it. Of 50 and 200, and of regimes of
batch, devices, software, all three and none, this and all three leave the pinball loss of models
left out within 3 % of the best, the pool of all rows.
"""


def cells(
    errors: Column, regimes: Sequence[np.ndarray], groups: Mapping[str, np.ndarray]
) -> dict[str, Cell]:
    """Quantiles of every regime; nothing for errors that are not known.

    Args:
        errors: log(measured / predicted) of the rows; NaN where a fit saw too little.
        regimes: names of the cells of every row, widest first.
        groups: labels by which rows were left out, such as models.
    """
    known = np.isfinite(errors)
    found: dict[str, Cell] = {}
    if not known.any():
        return found
    for level, names in enumerate(regimes):
        for name in np.unique(names[known]):
            rows = known & (names == name)
            own = np.quantile(errors[rows], LEVELS)
            if level:
                wider = found[str(regimes[level - 1][rows][0])].quantiles
                share = rows.sum() / (rows.sum() + WEIGHT)
                own = share * own + (1.0 - share) * wider
            found[str(name)] = Cell(int(rows.sum()), own)
    factor = np.sqrt(1.0 + sum(1.0 / len(np.unique(one[known])) for one in groups.values()))
    return {name: Cell(cell.rows, _moved(cell.quantiles, factor)) for name, cell in found.items()}


def _moved(quantiles: Quantiles, factor: float) -> Quantiles:
    return quantiles[MIDDLE] + factor * (quantiles - quantiles[MIDDLE])


def nested(columns: Mapping[str, Mapping[str, Cell]]) -> dict[str, dict[str, Cell]]:
    """Cells by who saw the rows, each as wide at least as those of fits that saw more."""
    within = {
        "other_shapes": ("fitted",),
        "other_accelerators": ("fitted",),
        "neither": SEEN[:-1],
    }
    return {
        seen: {
            key: Cell(cell.rows, _hull([cell, *_more(columns, within.get(seen, ()), key)]))
            for key, cell in cells.items()
        }
        for seen, cells in columns.items()
    }


def _more(
    columns: Mapping[str, Mapping[str, Cell]], names: tuple[str, ...], key: str
) -> list[Cell]:
    return [columns[name][key] for name in names if key in columns.get(name, {})]


def _hull(held: list[Cell]) -> Quantiles:
    """Quantiles of the first, below its median no higher and above no lower than all others."""
    every = np.stack([cell.quantiles for cell in held])
    return np.concatenate(
        [every[:, :MIDDLE].min(0), every[:1, MIDDLE], every[:, MIDDLE + 1 :].max(0)]
    )
