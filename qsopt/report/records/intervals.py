"""Where measurements are expected to be, from the errors that end-to-end predictions left."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from qsopt.fitted.memory import memory_fit
from qsopt.fitted.server import POOLED, known_server
from qsopt.fitted.spread import (
    INTERVALS,
    JOULES,
    MIDDLE,
    POOL,
    SOFTWARE,
    Cell,
    Quantiles,
    interval,
    inverse,
    ratio_quantiles,
    regimes,
    shipped_spreads,
)
from qsopt.record import name_of
from qsopt.report.inquiry import Inquiry
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model

Intervals = dict[str, dict[str, list[float]]]
"""By quantity and by percent, the ends of a central interval."""

_WORDS = {
    "fitted": "of this model and accelerator among others",
    "other_shapes": "of models that the fit did not see",
    "other_accelerators": "of accelerators that the fit did not see",
    "neither": "of models and accelerators that the fit did not see",
}


@dataclasses.dataclass(frozen=True)
class Errors:
    """How far a prediction is off."""

    quantiles: Quantiles
    """Of log(measured / predicted)."""
    basis: str
    """What it rests on, in words."""


def errors_of(
    inquiry: Inquiry, deployment: Deployment, quantity: str = "tpot", constants: str = "serving"
) -> Errors | None:
    """How far a quantity of a deployment is off; None without evidence: for a bound, a user's own
    set, or what nobody measured.

    On an accelerator of a generation on which no server was measured, the error of its operators
    is added to that of servers.

    Args:
        inquiry: what was asked.
        deployment: how the model is served.
        quantity: name of a spread.
        constants: with which it ships.
    """
    name, spreads = inquiry.efficiency_name, shipped_spreads(constants)
    if spreads is None or name is None or not known_server(name):
        return None
    seen = spreads.seen((inquiry.model_name or "").lower(), inquiry.accelerator)
    batch, devices = float(deployment.batch), float(deployment.replica_devices)
    keys = regimes(POOL if name == POOLED else name, batch, devices, quantity == JOULES)
    found = spreads.cell(quantity, seen, keys)
    if found is None:
        return None
    key, cell = found
    basis = f"{cell.rows:,} results of servers ({key}), by fits {_WORDS[seen]}"
    if spreads.known_generation(inquiry.accelerator):
        return Errors(cell.quantiles, basis)
    return _of_stranger(inquiry, cell, basis)


def _of_stranger(inquiry: Inquiry, cell: Cell, basis: str) -> Errors | None:
    """With the error of operators on an accelerator of another generation."""
    expected = inquiry.expectation()
    if expected is None:
        return None
    return Errors(expected.added_to(cell.quantiles), f"{basis}, with the errors of kernels added")


def design_intervals(
    inquiry: Inquiry, deployment: Deployment, record: Mapping[str, Any]
) -> Intervals | None:
    """Intervals of what a record says about decode steps; None without evidence.

    Args:
        inquiry: what was asked.
        deployment: of the design.
        record: values by name.
    """
    times = errors_of(inquiry, deployment)
    if times is None:
        return None
    speed = inverse(times.quantiles)
    quantiles = {
        "throughput_tokens_per_s": speed,
        "tokens_per_s_per_device": speed,
        "tokens_per_s_per_user": speed,
        "tpot_s": times.quantiles,
        **_energy(inquiry, deployment),
    }
    return _intervals(record, quantiles) | _room(inquiry, record)


def request_intervals(
    inquiry: Inquiry, deployment: Deployment, record: Mapping[str, Any]
) -> Intervals | None:
    """Intervals of what a record says about whole requests; None without evidence.

    As many requests are in a server as it decodes at once, so its time for a whole one is off as
    its throughput is, the other way round. Measured first tokens are those of load tests, where
    clients begin at once.
    """
    times = errors_of(inquiry, deployment)
    rates = errors_of(inquiry, deployment, "throughput")
    first = errors_of(inquiry, deployment, "ttft")
    if times is None or rates is None:
        return None
    quantiles = {
        **dict.fromkeys(_RATES, rates.quantiles),
        "tokens_per_s_per_user": inverse(times.quantiles),
        "tpot_s": times.quantiles,
        "end_to_end_s": inverse(rates.quantiles),
        **({} if first is None else {"ttft_s": first.quantiles}),
        **_energy(inquiry, deployment),
    }
    return _intervals(record, quantiles) | _room(inquiry, record)


ROOM = "room_bytes_per_device"
"""What a server has for its cache when it has started."""

_RATES = ("throughput_tokens_per_s", "tokens_per_s_per_device", "requests_per_s")


def _energy(inquiry: Inquiry, deployment: Deployment) -> dict[str, Quantiles]:
    drawn = errors_of(inquiry, deployment, JOULES, "power")
    return {} if drawn is None else {"joules_per_output_token": drawn.quantiles}


def _room(inquiry: Inquiry, record: Mapping[str, Any]) -> Intervals:
    """Of the room that a server has for its cache, whose error is one of bytes."""
    room = record.get(ROOM)
    model = (inquiry.model_name or "").lower()
    found = None if room is None else memory_fit().room_interval(room, model)
    return {} if found is None else {ROOM: found}


def _intervals(record: Mapping[str, Any], quantiles: Mapping[str, Quantiles]) -> Intervals:
    return {
        name: interval(record[name], one)
        for name, one in quantiles.items()
        if record.get(name) is not None
    }


def ratio_intervals(ratio: float, errors: tuple[Quantiles, Quantiles] | None) -> Intervals | None:
    """The interval of the ratio of throughputs, dense over MoE; None without evidence or a ratio.

    Args:
        ratio: as predicted.
        errors: as `speed_errors` gives them.
    """
    if errors is None or not 0.0 < ratio < np.inf:
        return None
    return {"ratio_dense_over_moe": interval(ratio, errors[1])}


def central_ratio(intervals: Intervals | None) -> list[float] | None:
    """Ends of the central 80 % of a ratio; None without evidence."""
    return None if intervals is None else intervals["ratio_dense_over_moe"]["80"]


def speed_errors(
    moe: tuple[Inquiry, Deployment], dense: tuple[Inquiry, Deployment], requests: bool
) -> tuple[Quantiles, Quantiles] | None:
    """How far the throughput of an MoE and the ratio of a dense model's over it are off, with the
    errors of both sides as they were measured to go together; None without evidence.

    Args:
        moe: what was asked of this side, and the deployment that writes.
        dense: of the other side.
        requests: whether the throughputs are of whole requests, not of decode steps.
    """
    spreads, name = shipped_spreads(), moe[0].efficiency_name
    pairs = None if spreads is None else spreads.ratio.get(POOL if name == POOLED else SOFTWARE)
    over, under = (_speed(*side, requests) for side in (dense, moe))
    if pairs is None or over is None or under is None:
        return None
    return under, ratio_quantiles(over, under, pairs)


def _speed(inquiry: Inquiry, deployment: Deployment, requests: bool) -> Quantiles | None:
    """Of the throughput of one side; that of decode steps is the reciprocal of their time."""
    found = errors_of(inquiry, deployment, "throughput" if requests else "tpot")
    if found is None:
        return None
    return found.quantiles if requests else inverse(found.quantiles)


def of_dense(inquiry: Inquiry, dense: Model) -> Inquiry:
    """The same question about the dense side of a comparison, which has a name where it exists."""
    return dataclasses.replace(inquiry, model=dense, model_name=name_of(inquiry.named))


def expected_error(inquiry: Inquiry, deployment: Deployment) -> dict[str, Any] | None:
    """Error expected of the time of a step, half of the central 50 % interval, with what it rests
    on, and the median errors of its operators; None where nothing is known.
    """
    times, operators = errors_of(inquiry, deployment), inquiry.expectation()
    if times is None or operators is None:
        return None
    low, high = (times.quantiles[place] for place in INTERVALS["50"])
    return {
        "step_time": float(np.expm1((high - low) / 2.0)),
        "basis": f"{operators.basis}; {times.basis}",
        "by_kind": operators.errors,
    }


def ratio_budget(
    moe: tuple[Inquiry, Deployment],
    dense: tuple[Inquiry, Deployment],
    ratio: float,
    requests: bool = False,
) -> dict[str, list[float]] | None:
    """What each error alone would make of the ratio, as central 80 % intervals: that of one side's
    speed, of the other's, and both as they were measured to go together; None without evidence.
    Arguments are those of `speed_errors`, and the ratio as predicted.
    """
    found = speed_errors(moe, dense, requests)
    over = _speed(*dense, requests)
    if found is None or over is None or not 0.0 < ratio < np.inf:
        return None
    under, both = found
    of_each = {"moe": inverse(under - under[MIDDLE]), "dense": over - over[MIDDLE], "both": both}
    return {name: interval(ratio, one)["80"] for name, one in of_each.items()}
