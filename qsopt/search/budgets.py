"""What a design may take: devices of the cluster, their rental, and the operations of its training.

A budget of devices, or of US dollars an hour, leaves the part of the cluster that it pays for:

    n = min(devices of the cluster, floor(devices allowed), floor(dollars allowed / rental of one)),

and everything is as if that part were the cluster: replicas fill it, domains are as large as
before, and a cost counts all of it. Operations of training are those of `physics.training` on the
tokens that the law compares designs at.
"""

import math
from dataclasses import dataclass, fields

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar
from qsopt.errors import InputError, exactly
from qsopt.lifetimes.training import SEQUENCE
from qsopt.physics.training import training_flops
from qsopt.programs import compiled
from qsopt.spec.model import Model
from qsopt.spec.service import Service

DEVICES, RENTAL, TRAINING = "devices", "price_per_hour", "training_flops"
"""Names of the budgets, as among the constraints."""

UNITS = {DEVICES: "device", RENTAL: "US dollar/hour", TRAINING: "FLOP of training"}

TRAINED = SEQUENCE
"""Tokens of a training sequence, for the operations of attention [tokens]."""

WHOLE = 1e-9
"""Relative shortfall of a whole number that counts as rounding."""


@dataclass(frozen=True)
class Budgets:
    """The most that a design may take; what is infinite is no budget."""

    devices: float = math.inf
    price_per_hour: float = math.inf
    """Rental of the devices [US dollar/hour]."""
    training_flops: float = math.inf
    """Operations of training, forward and backward, attention counted [FLOP]."""

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            if not value > 0:
                raise InputError(
                    f"max_{name} = {exactly(value)}: give a positive number, in {UNITS[name]}s"
                )

    @property
    def given(self) -> dict[str, float]:
        """Those that are budgets, by name."""
        named = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        return {name: value for name, value in named.items() if value != math.inf}

    def devices_of(self, service: Service) -> dict[str, float]:
        """Devices that the cluster has, and those that each budget pays for, whole ones.

        Raises:
            InputError: if a budget pays for none, or no rental is known.
        """
        most = {"cluster": float(service.cluster.devices)}
        if DEVICES in self.given:
            most[DEVICES] = _whole(self.devices)
            if most[DEVICES] < 1:
                raise InputError(f"max_devices = {exactly(self.devices)}: give one device or more")
        if RENTAL in self.given:
            rental = rental_of(service)
            most[RENTAL] = _whole(self.price_per_hour / rental)
            if most[RENTAL] < 1:
                raise InputError(
                    f"max_price_per_hour = {exactly(self.price_per_hour)}: one device costs "
                    f"{rental:.4g} US dollars an hour; give at least that"
                )
        return most

    def within(self, service: Service) -> Service:
        """The service on the part of its cluster that is paid for.

        Raises:
            InputError: if a budget pays for no device, or no rental is known.
        """
        most = self.devices_of(service)
        if len(most) == 1:
            return service
        paid = np.asarray(min(most.values()))
        return eqx.tree_at(lambda s: s.cluster.devices, service, paid)


@compiled
def _operations(model: Model, tokens: Scalar) -> Scalar:
    return training_flops(model, tokens, jnp.asarray(TRAINED))


def training_of(model: Model, tokens: float) -> float:
    """Operations of a model's training on so many tokens [FLOP]."""
    return float(_operations(model, np.asarray(float(tokens))))


def taken(service: Service, devices: float, model: Model, tokens: float) -> dict[str, float]:
    """What a design takes of every budget.

    Args:
        service: what it is served on.
        devices: of whole replicas.
        model: that is trained.
        tokens: that it is trained on.
    """
    return {
        DEVICES: devices,
        RENTAL: devices * float(service.cluster.accelerator.price_per_hour),
        TRAINING: training_of(model, tokens),
    }


def rental_of(service: Service) -> float:
    """Of one device [US dollar/hour].

    Raises:
        InputError: if none is known.
    """
    price = float(service.cluster.accelerator.price_per_hour)
    if not math.isfinite(price):
        raise InputError(
            "max_price_per_hour: no price is known for this accelerator; give --price, or state "
            "price.usd_per_hour in its file"
        )
    return price


def _whole(value: float) -> float:
    return float(math.floor(value * (1.0 + WHOLE)))


@dataclass(frozen=True)
class BudgetPrice:
    """A budget, what the answer takes of it, and what one more unit is worth."""

    constraint: str
    """Of `UNITS`."""
    limit: float
    """[unit]"""
    used: float
    """By the answer; of devices and their rental those of whole replicas [unit]."""
    unit: str
    """In words."""
    multiplier: float
    """d objective / d budget, 0 where the budget does not bind [objective's unit over `unit`]."""
    multiplier_unit: str
    """In words."""
    step: float | None
    """Units that came at once where the price is the difference of two optima; None for a slope."""
    active: bool
    """Whether one more unit changes the objective."""
