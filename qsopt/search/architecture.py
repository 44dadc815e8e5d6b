"""From values of the architecture variables to a model, and to the size of the dense model of its
quality.
"""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.comparison.twin import twin_width
from qsopt.errors import InputError
from qsopt.quality import QualityLaw, Status
from qsopt.quality.of_model import architecture
from qsopt.spec.model import Gqa, Layers, Model, MoeFfn, Stack, map_ffn, moe_layers

Values = Mapping[str, Scalar]
"""Values of variables by name."""

_ROUTED = {
    "experts": "experts",
    "top_k": "top_k",
    "expert_width": "width",
    "shared_experts": "shared_experts",
}


def reference_value(model: Model, name: str) -> float:
    """What a variable is in the reference model.

    Raises:
        InputError: if the model has no such thing.
    """
    moe = moe_layers(model)
    if name in _ROUTED and moe is not None:
        return float(getattr(moe, _ROUTED[name]))
    if name == "kv_heads":
        for layers in model.decoder.attention:
            if isinstance(layers.kind, Gqa):
                return float(layers.kind.kv_heads)
    if name in ("hidden", "layers"):
        return float(getattr(model, name))
    raise InputError(f"the reference model has no {name}: leave it out of what varies")


def with_architecture(model: Model, values: Values) -> Model:
    """The reference model with some sizes replaced; all routed layers alike, and layers of all
    kinds in proportion.
    """
    routed = {field: values[name] for name, field in _ROUTED.items() if name in values}
    if routed:
        model = map_ffn(model, lambda layers: _with_experts(layers, routed))
    if "kv_heads" in values:
        attention = tuple(
            _with_kv_heads(layers, values["kv_heads"]) for layers in model.decoder.attention
        )
        model = eqx.tree_at(lambda m: m.decoder.attention, model, attention)
    if "layers" in values:
        factor = values["layers"] / model.layers
        model = eqx.tree_at(
            lambda m: (m.decoder, m.layers),
            model,
            (_deeper(model.decoder, factor), values["layers"]),
        )
    return eqx.tree_at(lambda m: m.hidden, model, values["hidden"]) if "hidden" in values else model


def _with_experts(layers: Layers, fields: dict[str, Scalar]) -> Layers:
    if not isinstance(layers.kind, MoeFfn):
        return layers
    names = tuple(fields)
    return eqx.tree_at(
        lambda g: tuple(getattr(g.kind, name) for name in names), layers, tuple(fields.values())
    )


def _with_kv_heads(layers: Layers, kv_heads: Scalar) -> Layers:
    return (
        eqx.tree_at(lambda g: g.kind.kv_heads, layers, kv_heads)
        if isinstance(layers.kind, Gqa)
        else layers
    )


def _deeper(stack: Stack, factor: Scalar) -> Stack:
    def changed(groups: tuple[Layers, ...]) -> tuple[Layers, ...]:
        return tuple(Layers(group.count * factor, group.kind) for group in groups)

    return Stack(changed(stack.attention), changed(stack.ffn))


def matched(model: Model, law: QualityLaw, tokens: Scalar) -> Float[Array, " sizes"]:
    """Size of the dense match, whether it is physical (1 or 0), total and active parameters, and
    the twin's real width.
    """
    seen = architecture(model, tokens)
    match = law.match(seen)
    physical = jnp.where(match.status == jnp.int32(Status.PHYSICAL), 1.0, 0.0)
    return jnp.stack(
        [match.dense_parameters, physical, seen.total, seen.active, twin_width(model, match.q)]
    )
