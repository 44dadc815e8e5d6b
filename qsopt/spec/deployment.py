"""How a model is split over the devices, and how many sequences decode at once.

A replica is `pipeline` stages of n = tensor * data devices. Attention is split over `tensor`
devices, and `data` groups of them hold different sequences; the same n devices form `expert` groups
of `expert_tensor` for the routed experts, so expert * expert_tensor = n. Replicas of n * pipeline
devices fill the cluster.
"""

import math

from qsopt import xp
from qsopt.arrays import Scalar, is_concrete, number
from qsopt.errors import InputError, exactly
from qsopt.record import Record

GATHERED, DISPATCHED = 0.0, 1.0
"""Ways of the experts' communication: every device sees all tokens, or tokens are sent to their
experts.
"""

PARALLEL_SIZES = {
    "tp": "tensor",
    "dp": "data",
    "pp": "pipeline",
    "ep": "expert",
    "etp": "expert_tensor",
}
"""Parallel sizes by their short names, which the command line and every record have, and what each
is of a `Deployment`.
"""

_ROUNDING = 1e-6
"""Relative excess of a whole number that counts as rounding, in float32 too."""


class Deployment(Record):
    """Parallel sizes, batch, and the experts' way of communication."""

    tensor: Scalar = number(1.0)
    """Tensor parallel size of attention, t."""
    data: Scalar = number(1.0)
    """Attention data parallel size inside a replica, D."""
    pipeline: Scalar = number(1.0)
    """Pipeline stages, p."""
    expert: Scalar = number(1.0)
    """Expert parallel size, e."""
    batch: Scalar = number(1.0)
    """Sequences decoding at once in one replica, B."""
    dispatched: Scalar = number(GATHERED)
    """1 if tokens are dispatched to their experts, 0 if they are gathered; 0 where expert = 1."""
    dcp: Scalar = number(1.0)
    """Decode context parallel size, c: ranks of the tensor group that share the cache of a
    sequence."""
    expert_slots: Scalar = number(0.0)
    """Places for routed experts on all ranks together, E'; the places beyond the experts hold
    copies of popular ones. 0 for as many places as experts.
    """

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        for name in ("tensor", "data", "pipeline", "expert", "batch", "dcp"):
            value = float(getattr(self, name))
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} = {exactly(value)}: it must be a positive number")

    @property
    def stage_devices(self) -> Scalar:
        """Devices that hold one copy of a stage's weights, n."""
        return self.tensor * self.data

    @property
    def replica_devices(self) -> Scalar:
        """Devices of one replica."""
        return self.stage_devices * self.pipeline

    def slots(self, experts: Scalar) -> Scalar:
        """Places for the experts of a layer that has so many: never fewer than the experts."""
        return xp.maximum(self.expert_slots, experts)

    def rank_slots(self, experts: Scalar) -> Scalar:
        """Whole places of the fullest expert rank, ceil(E'/e)."""
        return xp.ceil(self.slots(experts) / self.expert * (1.0 - _ROUNDING))

    @property
    def expert_tensor(self) -> Scalar:
        """Tensor parallel size of an expert, u: the devices of a stage are shared by attention and
        experts.
        """
        return self.stage_devices / self.expert

    @property
    def token_split(self) -> Scalar:
        """Share of a microbatch's tokens that a device works on in the shared experts, n^-d: all
        where tokens are gathered (d = 0), one n-th where they are dispatched (d = 1).

        A power, so that relaxed designs between the two ways have a value and a slope.
        """
        return self.stage_devices**-self.dispatched

    @property
    def width_split(self) -> Scalar:
        """Share of the shared experts' width that a device holds, n^(d - 1): one n-th where tokens
        are gathered, all where they are dispatched. With `token_split` it makes 1/n.
        """
        return self.stage_devices ** (self.dispatched - 1.0)
