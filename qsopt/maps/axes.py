"""What may move along an axis of a map, and between which values where none are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from qsopt.arrays import Scalar
from qsopt.comparison.twin import smallest_q
from qsopt.errors import InputError, exactly, unknown_name
from qsopt.maps.points import REQUEST_NUMBERS, SERVICE_NUMBERS, Sparsity
from qsopt.spec.hardware import UNKNOWN_LINK
from qsopt.spec.model import Model
from qsopt.spec.service import Service

AxisName = Literal[
    "context",
    "batch",
    "devices",
    "bandwidth",
    "capacity",
    "scale_up",
    "scale_out",
    "domain",
    "sparsity",
    "q",
    "tpot",
    "prompt",
    "answer",
    "cached",
    "ttft",
    "load",
    "acceptance",
]
"""What may be an axis."""

MOST_POINTS = 1000
"""Of one axis."""

LINKS = ("scale_up", "scale_out")
"""Axes that are speeds of links."""

RISES, FALLS, NO_TREND, CONSTANT = 1, -1, 0, None
"""How the throughput of every layout at its largest admissible batch moves along an axis."""


@dataclass(frozen=True)
class AxisKind:
    """A kind of axis."""

    what: str
    """In words, with its unit."""
    trend: tuple[int | None, int | None]
    """Of the MoE's throughput and of the dense twin's; `NO_TREND` where it may do either."""
    usual: Callable[[Model, Service], tuple[float, float]]
    """Range where none is given."""
    number: Callable[..., Scalar] | None
    """The number of a point that moves along it; None for q, which the width of the twin follows.
    """
    whole: bool = False
    """Whether its values are whole numbers."""


def _service_kind(
    name: str,
    what: str,
    trend: int,
    usual: Callable[[Model, Service], tuple[float, float]],
    whole: bool = False,
) -> AxisKind:
    """A number of the service, which both sides share."""
    return AxisKind(what, (trend, trend), usual, SERVICE_NUMBERS[name], whole)


def _around(name: str, factor: float) -> Callable[[Model, Service], tuple[float, float]]:
    """A range about the service's own number."""

    def usual(_model: Model, service: Service) -> tuple[float, float]:
        middle = float(SERVICE_NUMBERS[name](service))
        if name in LINKS and middle <= UNKNOWN_LINK:
            raise InputError(f"{name}: this link speed is not known; give both ends of the range")
        return middle / factor, middle * factor

    return usual


def _fixed(low: float, high: float) -> Callable[[Model, Service], tuple[float, float]]:
    return lambda _model, _service: (low, high)


def _usual_devices(_model: Model, service: Service) -> tuple[float, float]:
    return 1.0, max(64.0, 4.0 * float(service.cluster.devices))


def _usual_sparsity(model: Model, _service: Service) -> tuple[float, float]:
    """From one expert a token, or a quarter of the model's, to eight times as many."""
    line = Sparsity.from_model(model)
    return line.at(max(1.0, line.top_k / 4.0)), line.at(min(line.experts, 8.0 * line.top_k))


def _usual_q(model: Model, _service: Service) -> tuple[float, float]:
    """From no less than a twin with feed-forward layers to the MoE's own size."""
    least, own = 1.05 * float(smallest_q(model)), 1.0 / Sparsity.from_model(model).own
    return max(1.0, least), max(1.2 * own, 2.0 * least)


AXIS_KINDS: dict[str, AxisKind] = {
    "context": _service_kind("context", "context length [tokens]", FALLS, _fixed(2.0**10, 2.0**20)),
    "batch": AxisKind(
        "sequences decoding in the cluster, at most",
        (RISES, RISES),
        _fixed(1.0, 2.0**14),
        lambda point: point.cap,
        whole=True,
    ),
    "devices": _service_kind("devices", "devices", RISES, _usual_devices, whole=True),
    "bandwidth": _service_kind(
        "bandwidth", "memory bandwidth [byte/s]", RISES, _around("bandwidth", 4.0)
    ),
    "capacity": _service_kind(
        "capacity", "memory per device [byte]", RISES, _around("capacity", 4.0)
    ),
    "scale_up": _service_kind(
        "scale_up", "links inside the domain [byte/s]", RISES, _around("scale_up", 8.0)
    ),
    "scale_out": _service_kind(
        "scale_out", "links between domains [byte/s]", RISES, _around("scale_out", 8.0)
    ),
    "domain": _service_kind(
        "domain", "devices of a scale-up domain", NO_TREND, _fixed(1.0, 128.0), whole=True
    ),
    "sparsity": AxisKind(
        "s, active over total parameters",
        (NO_TREND, NO_TREND),
        _usual_sparsity,
        lambda point: point.top_k_factor,
    ),
    "q": AxisKind("q, dense twin over active parameters", (CONSTANT, FALLS), _usual_q, None),
    "tpot": _service_kind("tpot", "longest time per token [s]", RISES, _fixed(0.005, 0.5)),
}
"""Every axis of decode alone by name."""


def _request_kind(name: str, what: str, trend: int, low: float, high: float) -> AxisKind:
    """A number of the requests, which both sides share."""
    return AxisKind(what, (trend, trend), _fixed(low, high), REQUEST_NUMBERS[name])


REQUEST_KINDS: dict[str, AxisKind] = {
    "prompt": _request_kind("prompt", "prompt [tokens]", FALLS, 2.0**10, 2.0**17),
    "answer": _request_kind("answer", "answer [tokens]", FALLS, 2.0**6, 2.0**13),
    "cached": _request_kind("cached", "share of the prompt that is cached", RISES, 0.05, 0.95),
    "ttft": _request_kind("ttft", "longest time to first token [s]", RISES, 0.1, 10.0),
    "load": _request_kind("load", "load of what reads prompts", NO_TREND, 0.1, 0.95),
    "acceptance": _request_kind("acceptance", "acceptance of a drafted token", RISES, 0.3, 1.0),
}
"""Axes of whole requests alone; trends are those of requests/s."""

SHARES = {"cached": 1.0, "load": 0.999, "acceptance": 1.0}
"""Axes that are shares, and their largest value."""


_KINDS = AXIS_KINDS | REQUEST_KINDS


@dataclass(frozen=True)
class Axis:
    """Values along one side of a map, rising."""

    name: AxisName
    """What moves."""
    values: Float[np.ndarray, " points"]
    """Where."""

    @property
    def kind(self) -> AxisKind:
        """What is known of all axes of that name."""
        return _KINDS[self.name]


def axis(
    name: str,
    model: Model,
    service: Service,
    low: float | None = None,
    high: float | None = None,
    points: int = 50,
) -> Axis:
    """An axis with evenly spaced values in log; whole ones are rounded, so there may be fewer.

    Args:
        name: one of `AxisName`.
        model: the MoE of the map.
        service: what the map starts from.
        low: first value; with `high`, taken from the model and the cluster if left out.
        high: last value.
        points: how many.

    Raises:
        InputError: if there is no such axis, or the range or the number of points is none.
    """
    if name not in get_args(AxisName):
        raise unknown_name("axis", name[:60], get_args(AxisName))
    first, last = _range(name, model, service, low, high)
    if not 0 < first < last < np.inf:
        raise InputError(
            f"{name} from {exactly(first)} to {exactly(last)}: give a range of positive "
            "numbers, the smaller "
            f"first"
        )
    if last > SHARES.get(name, np.inf):
        raise InputError(
            f"{name} up to {exactly(last)}: it is a share, at most {exactly(SHARES[name])}"
        )
    if not 2 <= points <= MOST_POINTS:
        raise InputError(f"{name}: {points} points; give 2 to {MOST_POINTS}")
    values = np.geomspace(first, last, points)
    values[0], values[-1] = first, last
    if _KINDS[name].whole:
        values = np.unique(np.maximum(np.round(values), 1.0))
    return Axis(name, values)  # pyright: ignore[reportArgumentType]


def _range(
    name: str, model: Model, service: Service, low: float | None, high: float | None
) -> tuple[float, float]:
    """Both ends, taken from the model and the cluster where they are left out."""
    if low is not None and high is not None:
        return low, high
    usual = _KINDS[name].usual(model, service)
    return usual[0] if low is None else low, usual[1] if high is None else high
