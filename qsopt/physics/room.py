"""The memory of a device in its parts, and the batch that fills it, whatever a server's utilization
is the share of.
"""

from qsopt import xp
from qsopt.arrays import Scalar, Softness, number
from qsopt.physics import smooth
from qsopt.record import Record
from qsopt.spec.server_memory import ServerMemory


class Memory(Record):
    """Memory of the fullest device [byte]."""

    weights: Scalar = number()
    """Weights, all experts of this rank included."""
    kv_cache: Scalar = number()
    """Keys and values, latents, states of all sequences of this rank."""
    activations: Scalar = number()
    """Largest activations and workspace, as far as the capacity must hold them."""
    reserve: Scalar = number()
    """Runtime and communication buffers, as far as the capacity must hold them."""
    capacity: Scalar = number()
    """What may be used: device memory times utilization, or what the server's utilization makes of
    it.
    """
    growing: Scalar = number(0.0)
    """Activations of this batch, which grow with it."""
    standing: Scalar = number(0.0)
    """Those that the server sets aside for any batch."""
    outside: Scalar = number(0.0)
    """Activations for which there is room outside of the capacity."""

    @property
    def total(self) -> Scalar:
        """Memory needed."""
        return self.weights + self.kv_cache + self.activations + self.reserve

    @property
    def largest_batch(self) -> Scalar:
        """Batch that would fill the capacity, for a record of decode made at batch 1; not positive
        where the weights alone do not fit.

        The cache grows with the batch, and activations are max(batch growing, standing) - outside,
        at least 0, so each of the three bounds the batch.
        """
        beside = self.capacity - self.weights - self.reserve + self.outside
        return xp.minimum(
            _over(self.room, self.kv_cache), _over(beside, self.kv_cache + self.growing)
        )

    @property
    def room(self) -> Scalar:
        """What a server has for its cache when it has started [byte]."""
        set_aside = xp.maximum(self.standing - self.outside, 0.0)
        return self.capacity - self.weights - self.reserve - set_aside


UNBOUNDED = 2.0**30
"""Batch, in that of the record, where no memory limits it (no cache and no workspace)."""


def _over(room: Scalar, growing: Scalar) -> Scalar:
    some = growing > 0.0
    most = room / xp.where(some, growing, 1.0)
    return xp.where(some | (room < 0.0), xp.minimum(most, UNBOUNDED), UNBOUNDED)


def counted(whole: Memory, server: ServerMemory, utilization: Scalar, softness: Softness) -> Memory:
    """What counts against the capacity under a utilization, from parts counted whole and the
    device's memory as capacity.

    With R, A and W the reserve, activations and weights, M the memory and u the utilization, the
    cache has u M - R - A - W; with the pool alone min(u (M - R), M - R - A) - W; of what is free
    u (M - R - A - W).

    Args:
        whole: parts counted whole, with `growing` and `standing` activations.
        server: what its utilization is a share of.
        utilization: u.
        softness: of the relaxed model.
    """
    unused = 1.0 - utilization
    outside = server.pool_only * unused * (whole.capacity - whole.reserve)
    inside = 1.0 - server.of_free * unused
    growing, standing = inside * whole.growing, inside * whole.standing
    reserve = whole.reserve * (1.0 - server.pool_only * unused)
    larger = smooth.maximum(growing, standing, softness)
    return Memory(
        weights=whole.weights,
        kv_cache=whole.kv_cache,
        activations=xp.maximum(larger - outside, 0.0),
        reserve=reserve,
        capacity=utilization * whole.capacity + server.of_free * unused * (whole.weights + reserve),
        growing=growing,
        standing=standing,
        outside=outside,
    )
