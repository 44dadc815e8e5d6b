"""How the errors of an MoE and a dense model go together: pairs of results with the same
accelerator, software, devices, lengths and batch.
"""

import numpy as np

from qsopt.calibration.serving.runs import Runs
from qsopt.calibration.serving.served_run import model_name
from qsopt.catalog.models import load_model
from qsopt.fitted.errors import Column
from qsopt.fitted.spread import Pairs
from qsopt.spec.model import moe_layers

FEWEST = 10
"""Pairs below which nothing is said."""


def measured_pairs(runs: Runs, errors: Column) -> Pairs | None:
    """Correlation of both sides' errors over all pairs, and the lean of their ratio: the median
    over MoE models of the median over their pairs. None with fewer than `FEWEST` pairs.

    Several results of one model in one place count as their median.

    Args:
        runs: end-to-end results.
        errors: log(measured / predicted) tokens per second of each, by fits without its model.
    """
    names = {str(name): _is_moe(str(name)) for name in np.unique(runs.model)}
    moe = np.array([names[str(name)] for name in runs.model])
    places = _places(runs)
    rows = []
    for place in np.unique(places[~moe]):
        here = (places == place) & np.isfinite(errors)
        if not (here & ~moe).any():
            continue
        dense = np.median(errors[here & ~moe])
        for model in np.unique(runs.model[here & moe]):
            rows.append((model, np.median(errors[here & (runs.model == model)]), dense))
    if len(rows) < FEWEST:
        return None
    label, sparse, dense = (np.array(column) for column in zip(*rows, strict=True))
    leans = [np.median((dense - sparse)[label == model]) for model in np.unique(label)]
    return Pairs(
        correlation=float(np.corrcoef(sparse, dense)[0, 1]),
        lean=float(np.median(leans)),
        pairs=len(rows),
        models=len(leans),
    )


def _places(runs: Runs) -> np.ndarray:
    """What both results of a pair share."""
    columns = (
        runs.gpu,
        runs.backend.astype(str),
        runs.lengths,
        runs.devices.astype(str),
        np.round(runs.batch, 6).astype(str),
    )
    return np.array(["|".join(row) for row in zip(*columns, strict=True)])


def _is_moe(name: str) -> bool:
    return moe_layers(load_model(model_name(name) or name)) is not None
