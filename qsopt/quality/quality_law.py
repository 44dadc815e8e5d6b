"""A quality law: which dense model has the quality of an MoE trained on as many tokens, N_dense = q
* N_active.

Every law answers q, the ratio of dense to active parameters counted its own way: with tables
(geometric, Ludziejewski, Abnar) or without (Clark, Tian, Krajewski, for which leaving them out
moves q of Qwen3-30B-A3B by +2, -2 and +20 %). The dense size reported is q times the active
parameters with all tables, as if tables were the same share of both. A ratio that no dense model
can have stays finite, with finite derivatives, and carries a status that says so.
"""

import abc
import enum

import equinox as eqx
from jaxtyping import Array, Bool, Int

from qsopt import xp
from qsopt.arrays import Scalar, is_concrete
from qsopt.errors import InputError
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange, short
from qsopt.record import Record

LARGEST_DENSE = 1e18
"""Where the search for a dense model ends: one larger still counts as none [parameters]."""
TOLERANCE = 0.01
"""Rounding of published coefficients that is not yet called unphysical: a dense model gives q =
0.994 under Tian.
"""


class Status(enum.IntEnum):
    """Whether the dense match can be real; the worst wins."""

    PHYSICAL = 0
    EXPERTS_HURT = 1
    """q < 1: a dense model smaller than the active parameters would match."""
    EXCEEDS_TOTAL = 2
    """q > 1/s: the dense match would be larger than the whole MoE, whose weights could hold it."""
    UNREACHABLE = 3
    """No dense model of any size reaches the MoE's loss on as many tokens."""


class DenseMatch(Record):
    """The quality-matched dense model of an architecture according to one law."""

    q: Scalar
    """N_dense / N_active."""
    dense_parameters: Scalar
    """Size of the dense match, every table included [parameters]."""
    status: Int[Array, ""]
    """A `Status`, as data so that it passes through `jit` and `vmap`."""

    @property
    def physical(self) -> Bool[Array, ""]:
        """Whether the match can be real."""
        return self.status == xp.int32(Status.PHYSICAL)


class QualityLaw(Record):
    """A published rule from an architecture to its dense match, with its source and the runs behind
    it.
    """

    name: eqx.AbstractVar[str]
    source: eqx.AbstractVar[str]
    """Authors, arXiv number and table."""
    range: eqx.AbstractVar[tuple[FitRange, ...]]
    """What the fit covered; empty for a rule that was never fitted."""

    @property
    def uses_tokens(self) -> bool:
        """Whether q depends on the training tokens, which then must be known."""
        return False

    @abc.abstractmethod
    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """q in the law's own parameter count, finite always, and a `Status` as far as the law
        itself knows.
        """

    def match(self, architecture: MoeArchitecture) -> DenseMatch:
        """q, the dense size and whether they can be real."""
        q, status = self.solve(architecture)
        hurt = xp.where(q < 1 - TOLERANCE, Status.EXPERTS_HURT, Status.PHYSICAL)
        exceeds = xp.where(
            q > (1 + TOLERANCE) * architecture.critical_q, Status.EXCEEDS_TOTAL, Status.PHYSICAL
        )
        worst = xp.maximum(status, xp.maximum(hurt, exceeds).astype(xp.int32))
        return DenseMatch(q, q * architecture.active, worst)

    def q(self, architecture: MoeArchitecture) -> Scalar:
        """N_dense / N_active; read it with `match` where it may be unphysical."""
        return self.solve(architecture)[0]

    def dense_parameters(self, architecture: MoeArchitecture) -> Scalar:
        """Size of the dense match, every table included [parameters]."""
        return self.q(architecture) * architecture.active

    def warnings(self, architecture: MoeArchitecture) -> list[str]:
        """What is wrong with asking this law about this architecture: `extrapolates: ...` and
        `unphysical: ...`.

        Raises:
            InputError: if the architecture is being traced, where no value can be looked at.
        """
        if not is_concrete(architecture):
            raise InputError(
                "warnings need numbers: call them outside jit, or read the status of match() inside"
            )
        found = [warning for span in self.range if (warning := span.warning(architecture))]
        match = self.match(architecture)
        return found + _unphysical(Status(int(match.status)), float(match.q), architecture)


def status_of(broken: Bool[Array, ""], status: Status) -> Int[Array, ""]:
    """`status` where `broken`, else physical."""
    return xp.where(broken, xp.int32(status), xp.int32(Status.PHYSICAL))


def _unphysical(status: Status, q: float, architecture: MoeArchitecture) -> list[str]:
    total, active = float(architecture.total), float(architecture.active)
    reasons = {
        Status.EXPERTS_HURT: f"a dense model of q = {q:.3f} times the active parameters would "
        f"match: the experts hurt",
        Status.EXCEEDS_TOTAL: f"dense match of {short(q * active)} parameters exceeds the MoE's "
        f"total of {short(total)}",
        Status.UNREACHABLE: f"no dense model trained on {short(float(architecture.tokens))} "
        f"tokens reaches the MoE's loss",
    }
    return [f"unphysical: {reasons[status]}"] if status in reasons else []
