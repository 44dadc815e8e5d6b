"""What it is served on: accelerators as datasheets state them, and clusters. Achieved fractions
stand in `efficiency`.
"""

import equinox as eqx
import numpy as np

from qsopt import xp
from qsopt.arrays import Scalar, Table, entry, is_concrete, number, numbers, scalar
from qsopt.errors import InputError, exactly
from qsopt.record import Record
from qsopt.spec.formats import Format, default_arithmetic

UNKNOWN_LINK = 1.0
"""Speed of a link that nobody states: a number, as what is traced must stay finite, and one that no
link has and no best layout uses [byte/s].
"""


class Accelerator(Record):
    """One device as software sees it. Peaks are dense (never 2:4 sparse); link speeds are one
    direction.
    """

    peak_flops: Table = numbers()
    """Peak by arithmetic in the order of `formats.ARITHMETICS`; a missing one is that of the next
    wider [FLOP/s].
    """
    memory_bytes: Scalar = number()
    """Device memory as software sees it [byte]."""
    bandwidth: Scalar = number()
    """Memory bandwidth [byte/s]."""
    scale_up_devices: Scalar = number()
    """Devices of one scale-up domain (NVLink, Infinity Fabric, ICI)."""
    scale_up_bandwidth: Scalar = number()
    """Per device and direction inside the domain [byte/s]."""
    scale_out_bandwidth: Scalar = number()
    """Per device and direction between domains [byte/s]."""
    mesh_peers: Scalar = number(0.0)
    """Peers among which the links of a device are divided in a full mesh; 0 behind a switch, which
    gives all of them to any peer.
    """
    torus_links: Scalar = number(0.0)
    """Links of a device in a torus or ring, each to one neighbour; 0 without one."""
    arithmetic: Table = eqx.field(default_factory=default_arithmetic, converter=scalar)
    """Index into `formats.ARITHMETICS` for each of `formats.FORMATS`: what products with weights of
    that format run in here. Stored as floats, so that a derivative by a whole cluster is one.
    """
    price_per_hour: Scalar = number(float("nan"))
    """Rental price of a device where known, else NaN [US dollar/hour]."""
    power_limit: Scalar = number(float("nan"))
    """Thermal design power of a device where known, else NaN [W]."""

    def peak(self, form: Format) -> Scalar:
        """Peak of the arithmetic that weights of this format compute in [FLOP/s]."""
        index = xp.round(entry(self.arithmetic, form.index)).astype(xp.int32)
        return entry(self.peak_flops, index)

    def links_share(self, ranks: Scalar) -> Scalar:
        """Share of a device's scale-up links that lie between so many ranks of one domain.

        Behind a switch 1. In a full mesh each peer has its own link: (ranks - 1) of `mesh_peers`.
        In a torus, ranks packed as compactly as they go have log2(ranks) links each.
        """
        others = xp.maximum(ranks - 1.0, 1.0)
        mesh = xp.minimum(others / xp.maximum(self.mesh_peers, 1.0), 1.0)
        torus = xp.log2(xp.maximum(ranks, 2.0)) / xp.maximum(self.torus_links, 1.0)
        share = xp.where(self.mesh_peers > 0.0, mesh, 1.0)
        return xp.where(self.torus_links > 0.0, xp.minimum(torus, 1.0), share)


class Cluster(Record):
    """So many devices of one kind."""

    accelerator: Accelerator
    devices: Scalar = number()
    """Devices in the cluster."""

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        if not float(self.devices) >= 1:
            raise InputError(
                f"devices = {exactly(float(self.devices))}: a cluster needs at least one device"
            )
        chip = self.accelerator
        beyond = np.asarray(self.devices) > np.asarray(chip.scale_up_devices)
        if np.any(beyond & (np.asarray(chip.scale_out_bandwidth) <= UNKNOWN_LINK)):
            raise InputError(
                f"{exactly(float(self.devices))} devices: no link speed is known beyond a domain "
                f"of {exactly(float(chip.scale_up_devices))}; take no more, or state "
                f"scale_out_bandwidth"
            )
