"""Parameters of a whole model by part; totals agree with published ones (see the catalog tests)."""

from qsopt.arrays import Scalar, number
from qsopt.physics.layer_weights import (
    attention_weights,
    expert_weights,
    ffn_gemms,
    router_weights,
    shared_width,
    weights,
)
from qsopt.programs import evaluated
from qsopt.record import Record
from qsopt.spec.layers import MoeFfn, Stack
from qsopt.spec.model import Model, stacks


class Parameters(Record):
    """A model's parameters by part."""

    attention: Scalar = number()
    """Attention projections."""
    dense: Scalar = number()
    """Dense feed-forward layers."""
    shared: Scalar = number()
    """Shared experts."""
    routed: Scalar = number()
    """Routed experts, all of them."""
    routed_active: Scalar = number()
    """Routed experts that one token uses."""
    router: Scalar = number()
    """Routers."""
    small: Scalar = number()
    """Norms, biases and other odds."""
    input_table: Scalar = number()
    """Input embedding table; 0 where it is tied to the head."""
    head: Scalar = number()
    """Output head."""
    resident: Scalar = number(0.0)
    """Towers and lookup tables beside the layers, which a decode step does not read."""

    @property
    def total(self) -> Scalar:
        """All parameters, both tables and what is only resident included."""
        return self.total_without_tables + self.input_table + self.head + self.resident

    @property
    def active(self) -> Scalar:
        """Parameters of one token with all tables: the convention used throughout. Encoder and
        decoder both count.
        """
        return self._every_token + self.routed_active + self.input_table + self.head

    @property
    def active_without_input_table(self) -> Scalar:
        """What a decode step multiplies with: a tied table counts once, as the head."""
        return self.active - self.input_table

    @property
    def active_without_tables(self) -> Scalar:
        """Active parameters without either table."""
        return self.active - self.input_table - self.head

    @property
    def total_without_tables(self) -> Scalar:
        """All parameters of the language model without either table, and without what is only
        resident.
        """
        return self._every_token + self.routed

    @property
    def _every_token(self) -> Scalar:
        return self.attention + self.dense + self.shared + self.router + self.small


def parameter_count(model: Model) -> Parameters:
    """Parameters of a model by part. Differentiable in every size."""
    parts = [_stack_parameters(stack, model.hidden) for stack in stacks(model)]
    attention, dense, shared, routed, active, router, small = (
        sum(part) for part in zip(*parts, strict=True)
    )
    table = model.vocabulary * model.hidden
    return Parameters(
        attention,
        dense,
        shared,
        routed,
        active,
        router,
        small + model.small,
        table * (1.0 - model.tied),
        table,
        model.resident,
    )


compiled_parameter_count = evaluated(parameter_count)
"""The same, faster where a model of one structure is counted more than once."""


def _stack_parameters(stack: Stack, hidden: Scalar) -> tuple[Scalar | float, ...]:
    attention = dense = shared = routed = active = router = small = 0.0
    for layers in stack.attention:
        sets = layers.distinct
        attention += sets * attention_weights(layers.kind, hidden)
        small += sets * layers.kind.small
    for layers in stack.ffn:
        sets = layers.distinct
        common = sets * weights(ffn_gemms(hidden, shared_width(layers.kind), layers.kind.matrices))
        small += sets * layers.kind.small
        if isinstance(layers.kind, MoeFfn):
            shared += common
            expert = sets * (expert_weights(layers.kind, hidden) + layers.kind.expert_small)
            routed += layers.kind.experts * expert
            active += layers.kind.top_k * expert
            router += sets * router_weights(layers.kind, hidden)
        else:
            dense += common
    return attention, dense, shared, routed, active, router, small
