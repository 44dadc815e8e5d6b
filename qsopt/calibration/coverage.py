"""Which measured rows lie inside the 80 % intervals that are printed beside such predictions."""

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

from qsopt.calibration.serving.runs import Runs
from qsopt.calibration.serving.served_run import model_name
from qsopt.catalog.models import load_model
from qsopt.fitted.errors import Column
from qsopt.fitted.expected import SOFTWARE, Expectation, expectation
from qsopt.fitted.spread import INTERVALS, Quantiles, Spreads, regimes


def inside(
    spreads: Spreads,
    quantity: str,
    errors: Column,
    models: Iterable[str],
    accelerators: Iterable[str],
    places: Iterable[tuple[str, tuple[str, ...]]],
) -> Column:
    """Whether each row lies inside its 80 % interval, as 1 or 0; NaN without an error or evidence.

    Args:
        spreads: that ship with the constants.
        quantity: name of one.
        errors: log(measured / predicted).
        models: of the rows, as tables name them.
        accelerators: of the catalog.
        places: software and regimes of the rows, widest first.
    """
    low, high = INTERVALS["80"]
    found = np.full(len(errors), np.nan)
    of_rows = row_quantiles(spreads, quantity, models, accelerators, places)
    for row, quantiles in enumerate(of_rows):
        if quantiles is not None and np.isfinite(errors[row]):
            found[row] = float(quantiles[low] <= errors[row] <= quantiles[high])
    return found


def row_quantiles(
    spreads: Spreads,
    quantity: str,
    models: Iterable[str],
    accelerators: Iterable[str],
    places: Iterable[tuple[str, tuple[str, ...]]],
) -> Iterator[Quantiles | None]:
    """Quantiles of the log error that is expected of each row; None without evidence.

    Args:
        spreads: that ship with the constants.
        quantity: name of one.
        models: of the rows, as tables name them.
        accelerators: of the catalog.
        places: software and regimes of the rows, widest first.
    """
    for model, gpu, (software, keys) in zip(models, accelerators, places, strict=True):
        yield _quantiles(spreads, quantity, model_name(str(model)), str(gpu), software, keys)


def _quantiles(
    spreads: Spreads,
    quantity: str,
    model: str | None,
    gpu: str,
    software: str,
    keys: tuple[str, ...],
) -> Quantiles | None:
    cell = spreads.cell(quantity, spreads.seen(model, gpu), keys)
    if cell is None or spreads.known_generation(gpu) or model is None:
        return None if cell is None else cell[1].quantiles
    return _expected(model, gpu, software).added_to(cell[1].quantiles)


@cache
def _expected(model: str, gpu: str, software: str) -> Expectation:
    """Of the operators on the accelerator."""
    return expectation(load_model(model), gpu, software if software in SOFTWARE else None)


def places(runs: Runs) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Software and regimes of every run."""
    for name, batch, devices in zip(runs.software, runs.batch, runs.devices, strict=True):
        yield str(name), regimes(str(name), batch, devices)
