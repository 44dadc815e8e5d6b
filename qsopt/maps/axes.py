"""What may move along an axis of a map, and between which values where none are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from qsopt.comparison.twin import smallest_q
from qsopt.errors import InputError, unknown_name
from qsopt.maps.condition import Sparsity
from qsopt.spec.model import Model
from qsopt.spec.service import Service

Name = Literal[
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
]

MOST_POINTS = 1000
"""Of one axis."""

RISES, FALLS, NO_TREND, CONSTANT = 1, -1, 0, None
"""How the throughput of every layout at its largest admissible batch moves along an axis."""


@dataclass(frozen=True)
class Kind:
    """A kind of axis."""

    what: str
    """In words, with its unit."""
    trend: tuple[int | None, int | None]
    """Of the MoE's throughput and of the dense twin's; `NO_TREND` where it may do either."""
    usual: Callable[[Model, Service], tuple[float, float]]
    """Range where none is given."""
    whole: bool = False
    """Whether its values are whole numbers."""


def _around(
    value: Callable[[Service], object], factor: float
) -> Callable[[Model, Service], tuple[float, float]]:
    def usual(_model: Model, service: Service) -> tuple[float, float]:
        middle = float(value(service))  # pyright: ignore[reportArgumentType]
        return middle / factor, middle * factor

    return usual


def _fixed(low: float, high: float) -> Callable[[Model, Service], tuple[float, float]]:
    return lambda _model, _service: (low, high)


def _usual_devices(_model: Model, service: Service) -> tuple[float, float]:
    return 1.0, max(64.0, 4.0 * float(service.cluster.devices))


def _usual_sparsity(model: Model, _service: Service) -> tuple[float, float]:
    """From one expert a token, or a quarter of the model's, to eight times as many."""
    share = Sparsity.of(model)
    return share.at(max(1.0, share.top_k / 4.0)), share.at(min(share.experts, 8.0 * share.top_k))


def _usual_q(model: Model, _service: Service) -> tuple[float, float]:
    """From no less than a twin with feed-forward layers to the MoE's own size."""
    least, own = 1.05 * float(smallest_q(model)), 1.0 / Sparsity.of(model).own
    return max(1.0, least), max(1.2 * own, 2.0 * least)


KINDS: dict[str, Kind] = {
    "context": Kind("context length [tokens]", (FALLS, FALLS), _fixed(2.0**10, 2.0**20)),
    "batch": Kind(
        "sequences decoding in the cluster, at most",
        (RISES, RISES),
        _fixed(1.0, 2.0**14),
        whole=True,
    ),
    "devices": Kind("devices", (RISES, RISES), _usual_devices, whole=True),
    "bandwidth": Kind(
        "memory bandwidth [byte/s]",
        (RISES, RISES),
        _around(lambda p: p.cluster.accelerator.bandwidth, 4.0),
    ),
    "capacity": Kind(
        "memory per device [byte]",
        (RISES, RISES),
        _around(lambda p: p.cluster.accelerator.memory_bytes, 4.0),
    ),
    "scale_up": Kind(
        "links inside the domain [byte/s]",
        (RISES, RISES),
        _around(lambda p: p.cluster.accelerator.scale_up_bandwidth, 8.0),
    ),
    "scale_out": Kind(
        "links between domains [byte/s]",
        (RISES, RISES),
        _around(lambda p: p.cluster.accelerator.scale_out_bandwidth, 8.0),
    ),
    "domain": Kind(
        "devices of a scale-up domain", (NO_TREND, NO_TREND), _fixed(1.0, 128.0), whole=True
    ),
    "sparsity": Kind("s, active over total parameters", (NO_TREND, NO_TREND), _usual_sparsity),
    "q": Kind("q, dense twin over active parameters", (CONSTANT, FALLS), _usual_q),
    "tpot": Kind("longest time per token [s]", (RISES, RISES), _fixed(0.005, 0.5)),
}
"""Every axis by name."""


@dataclass(frozen=True)
class Axis:
    """Values along one side of a map, rising."""

    name: Name
    values: Float[np.ndarray, " points"]

    @property
    def kind(self) -> Kind:
        """What moves."""
        return KINDS[self.name]


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
        name: one of `KINDS`.
        model: the MoE of the map.
        service: what the map starts from.
        low: first value; with `high`, taken from the model and the cluster if left out.
        high: last value.
        points: how many.

    Raises:
        InputError: if there is no such axis, or the range or the number of points is none.
    """
    if name not in get_args(Name):
        raise unknown_name("axis", name[:60], get_args(Name))
    usual = KINDS[name].usual(model, service)
    first, last = usual[0] if low is None else low, usual[1] if high is None else high
    if not 0 < first < last < np.inf:
        raise InputError(
            f"{name} from {first:g} to {last:g}: give a range of positive numbers, the smaller "
            f"first"
        )
    if not 2 <= points <= MOST_POINTS:
        raise InputError(f"{name}: {points} points; give 2 to {MOST_POINTS}")
    values = np.geomspace(first, last, points)
    values[0], values[-1] = first, last
    if KINDS[name].whole:
        values = np.unique(np.maximum(np.round(values), 1.0))
    return Axis(name, values)  # pyright: ignore[reportArgumentType]
