"""What it is served on: accelerators as datasheets state them, and clusters. Achieved fractions
stand in `efficiency`.
"""

from qsopt.arrays import Scalar, Table, entry, is_concrete, number, numbers
from qsopt.errors import InputError
from qsopt.record import Record
from qsopt.spec.formats import Format


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
    price_per_hour: Scalar = number(float("nan"))
    """Rental price of a device where known, else NaN [US dollar/hour]."""

    def peak(self, form: Format) -> Scalar:
        """Peak of the arithmetic that weights of this format compute in [FLOP/s]."""
        return entry(self.peak_flops, form.arithmetic)


class Cluster(Record):
    """So many devices of one kind."""

    accelerator: Accelerator
    devices: Scalar = number()
    """Devices in the cluster."""

    def __check_init__(self) -> None:
        if is_concrete(self) and not float(self.devices) >= 1:
            raise InputError(
                f"devices = {float(self.devices):g}: a cluster needs at least one device"
            )
