"""What operations of training cost in money and energy."""

import equinox as eqx

from qsopt.arrays import Scalar, number
from qsopt.errors import InputError, exactly
from qsopt.record import Record
from qsopt.spec.formats import ARITHMETICS
from qsopt.spec.hardware import Accelerator
from qsopt.units import SECONDS_PER_HOUR

MFU = 0.4
"""Model FLOPs utilization where none is given: 38-43 % of the bf16 peak on 8,192 to 16,384 H100
with Llama 3.1 405B (arXiv 2407.21783, table 4).
"""

SEQUENCE = 4096.0
"""Tokens of a training sequence where none are given: those of most of the pretraining of
DeepSeek-V3 (arXiv 2412.19437, section 4.2) [tokens].
"""

STUDENT_SHARE = (0.025, 0.158, 1.0)
"""Tokens of distillation over those of training: the least, the one taken, the most.

No law says how many an MoE's dense student needs to be as good. At least a fortieth: a student
pruned from its own teacher (arXiv 2407.14679). At most all: with enough tokens a teacher saves none
(arXiv 2502.08606). Taken is their geometric mean.
"""


class Trainer(Record):
    """Who trains, and how well."""

    accelerator: Accelerator = eqx.field(repr=False)
    mfu: Scalar = number(MFU)
    """Operations of the model over the bf16 peak, over the whole run."""
    sequence: Scalar = number(SEQUENCE)
    """Tokens of a training sequence."""

    def device_seconds(self, flops: Scalar) -> Scalar:
        """Time of one device for so many operations [s]."""
        return flops / (self.mfu * self.accelerator.peak_flops[ARITHMETICS.index("bf16")])

    def dollars(self, flops: Scalar) -> Scalar:
        """Rental of devices for so many operations [US dollar]."""
        hours = self.device_seconds(flops) / SECONDS_PER_HOUR
        return hours * self.accelerator.price_per_hour

    def joules(self, flops: Scalar) -> Scalar:
        """Energy of devices that draw their power limit meanwhile, as reports of training take it
        (LLaMA, arXiv 2302.13971, section 6) [J].
        """
        return self.device_seconds(flops) * self.accelerator.power_limit


def trainer(accelerator: Accelerator, mfu: float, sequence: float) -> Trainer:
    """A trainer of such numbers.

    Raises:
        InputError: if a number is out of range, or the accelerator has no price.
    """
    if not 0.0 < mfu <= 1.0:
        raise InputError(f"mfu = {exactly(mfu)}: give a share of the peak, such as 0.4")
    if not 1.0 <= sequence < float("inf"):
        raise InputError(f"sequence = {exactly(sequence)}: give the tokens of a training sequence")
    if not float(accelerator.price_per_hour) > 0.0:
        raise InputError("no price is known of the training accelerator: give --price")
    return Trainer(accelerator, mfu, sequence)
