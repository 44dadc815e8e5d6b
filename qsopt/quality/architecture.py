"""What the quality laws see of a model: parameter counts, the routing, the width of an expert and
the training tokens.

Each law counts in its own way, so both totals and non-embedding counts are kept; the definitions
that laws share (how many experts a top-k router is worth, how fine the experts are, the training
compute) stand here once.
"""

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar, is_concrete, scalar
from qsopt.errors import InputError
from qsopt.record import Record


class MoeArchitecture(Record):
    """A Mixture-of-Experts model and its training budget. A dense model has experts = top_k = 1."""

    total: Scalar = eqx.field(converter=scalar)
    """All parameters, every table included [parameters]."""
    active: Scalar = eqx.field(converter=scalar)
    """Parameters of one token's forward pass, every table included [parameters]."""
    total_nonembedding: Scalar = eqx.field(converter=scalar)
    """All parameters but the embedding and output tables [parameters]."""
    active_nonembedding: Scalar = eqx.field(converter=scalar)
    """Active parameters but the embedding and output tables [parameters]."""
    experts: Scalar = eqx.field(converter=scalar)
    """Routed experts E of a layer."""
    top_k: Scalar = eqx.field(converter=scalar)
    """Routed experts k that a token uses."""
    shared_experts: Scalar = eqx.field(converter=scalar)
    """Shared experts E_s of a layer, which every token uses."""
    hidden: Scalar = eqx.field(converter=scalar)
    """Hidden size d_model."""
    expert_width: Scalar = eqx.field(converter=scalar)
    """Intermediate size d_expert of a routed expert."""
    tokens: Scalar = eqx.field(converter=scalar)
    """Training tokens D [tokens]."""

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        for name in (
            "total",
            "active",
            "total_nonembedding",
            "active_nonembedding",
            "hidden",
            "expert_width",
            "tokens",
        ):
            if not np.all(np.asarray(getattr(self, name)) > 0):
                raise InputError(
                    f"{name} = {getattr(self, name)}: a quality law needs a positive {name}"
                )
        if not np.all(
            (np.asarray(self.top_k) > 0) & (np.asarray(self.top_k) <= np.asarray(self.experts))
        ):
            raise InputError(
                f"top_k = {self.top_k} with {self.experts} experts: set 0 < top_k <= experts"
            )
        if not np.all(np.asarray(self.shared_experts) >= 0):
            raise InputError(f"shared_experts = {self.shared_experts}: set 0 where there are none")
        if not np.all(np.asarray(self.active) <= np.asarray(self.total)):
            raise InputError(
                f"active = {self.active} of total = {self.total} parameters: active is at most "
                f"total"
            )

    @property
    def active_fraction(self) -> Scalar:
        """s = N_active / N_total."""
        return self.active / self.total

    @property
    def critical_q(self) -> Scalar:
        """1/s: above this q the matched dense model is larger than the whole MoE."""
        return self.total / self.active

    @property
    def activated_experts(self) -> Scalar:
        """k + E_s, the granularity of Krajewski et al. (a token is routed to G experts)."""
        return self.top_k + self.shared_experts

    @property
    def effective_experts(self) -> Scalar:
        """E_eff = (E + E_s)/(k + E_s): the experts of a top-1 layer of the same sparsity."""
        return (self.experts + self.shared_experts) / self.activated_experts

    @property
    def activation_ratio(self) -> Scalar:
        """A = (k + E_s)/(E + E_s), the share of experts that a token uses; 1 - A is the sparsity S
        of Abnar et al.
        """
        return self.activated_experts / (self.experts + self.shared_experts)

    @property
    def granularity(self) -> Scalar:
        """G = 2 d_model / d_expert, the definition of Tian et al."""
        return 2.0 * self.hidden / self.expert_width

    @property
    def compute(self) -> Scalar:
        """C = 6 N D over active non-embedding parameters: training compute, attention scores left
        out [FLOP].
        """
        return 6.0 * self.active_nonembedding * self.tokens


def stack(architectures: list[MoeArchitecture]) -> MoeArchitecture:
    """One record whose fields are arrays over the architectures, to be mapped over."""
    return jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *architectures
    )
