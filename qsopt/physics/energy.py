"""Power and energy: what a device draws while it serves, and what a token costs in joules.

    P = limit * min(1, idle + memory * m + compute * c)

with m and c the shares of the time in which a device's memory and matrix units work, at the rates
they achieve, and three constants in units of the power limit, so that they carry over between
accelerators. Energy per token is power over throughput. Ignored: clocks that fall below the limit,
the energy of links (small beside that of memory), hosts, fans and conversion outside of the device;
a facility multiplies by its own factor, and carbon is kWh times the grid's.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import smooth
from qsopt.physics.roofline import Spent
from qsopt.record import Record
from qsopt.spec.hardware import Cluster


class PowerLaw(Record):
    """Parts of a device's power, in units of its limit."""

    idle: Scalar = number()
    """Drawn by a device that serves, whatever it does."""
    memory: Scalar = number()
    """Added where memory works all of the time."""
    compute: Scalar = number()
    """Added where matrix units work all of the time."""


class TokenLaw(Record):
    """Parts of the energy of an output token, in units of a device's power limit.

    A server takes longer for a step than its operators do: its host works for every sequence while
    all devices of the replica draw power. So the law is of energies, which add, and knows nothing
    of a server's own time.
    """

    step: Scalar = number()
    """Share of the limit that a device draws through the time of a step's operators."""
    memory: Scalar = number()
    """Added while memory works."""
    compute: Scalar = number()
    """Added while matrix units work."""
    sequence: Scalar = number()
    """Time at the limit that each token of a sequence adds on every device of its replica [s]."""


def token_energy(
    law: TokenLaw,
    watts: Scalar,
    seconds: Scalar,
    compute: Scalar,
    memory: Scalar,
    tokens: Scalar,
) -> Scalar:
    """Energy of a replica per output token [J].

    Args:
        law: constants.
        watts: power limit of all devices of the replica [W].
        seconds: of a step's operators [s].
        compute: of them, those in which matrix units work [s].
        memory: of them, those in which memory works [s].
        tokens: output tokens of a step.
    """
    step = law.step * seconds + law.memory * memory + law.compute * compute
    return watts * (step / tokens + law.sequence)


class Energy(Record):
    """What a cluster draws for what it serves; NaN where the device's power limit is not known."""

    watts_per_device: Scalar = number()
    """Mean over all devices, unused ones at the law's idle share [W]."""
    joules_per_token: Scalar = number()
    """Energy of the whole cluster per output token [J]."""


def power_share(
    law: PowerLaw, compute_share: Scalar, memory_share: Scalar, softness: Softness = EXACT
) -> Scalar:
    """Power of a device over its limit.

    Args:
        law: constants.
        compute_share: share of the time in which matrix units work.
        memory_share: share of the time in which memory works.
        softness: smoothing of the relaxed model, 0 for the exact one.
    """
    parts = law.idle + law.memory * memory_share + law.compute * compute_share
    return smooth.minimum(parts, xp.ones(()), softness)


def busy_shares(breakdown: Spent) -> tuple[Scalar, Scalar]:
    """Shares of a decode step in which matrix units and memory of a device work, from the breakdown
    of its operators.
    """
    seconds = xp.sum(breakdown.seconds)
    whole = xp.where(seconds > 0, seconds, 1.0)
    return xp.sum(breakdown.compute) / whole, xp.sum(breakdown.memory) / whole


def energy(
    cluster: Cluster,
    law: PowerLaw,
    compute_share: Scalar,
    memory_share: Scalar,
    used_devices: Scalar,
    throughput: Scalar,
    softness: Softness = EXACT,
) -> Energy:
    """Power and energy of a cluster, from the shares of the time in which devices work; of a decode
    step or of whole requests alike.

    Args:
        cluster: devices and their power limit.
        law: constants.
        compute_share: share of the time in which matrix units of a device in use work.
        memory_share: share of the time in which its memory works.
        used_devices: devices in use.
        throughput: output tokens of the whole cluster [tokens/s].
        softness: smoothing of the relaxed model, 0 for the exact one.
    """
    busy = power_share(law, compute_share, memory_share, softness)
    used = used_devices / cluster.devices
    watts = cluster.accelerator.power_limit * (used * busy + (1.0 - used) * law.idle)
    rate = throughput / cluster.devices
    some = rate > 0
    return Energy(watts, xp.where(some, watts / xp.where(some, rate, 1.0), xp.inf))
