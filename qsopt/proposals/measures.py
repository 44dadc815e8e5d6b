"""The numbers by which shapes of models are compared, each a ratio or a count that released models
keep within a range.

Granularity is that of Tian et al. (arXiv 2507.17702), G = 2 h / f_e; the active share counts
experts, (k + E_s)/(E + E_s). Widths over hidden are those of gated layers: an ungated width counts
two thirds, as its two matrices weigh as much.
"""

from dataclasses import dataclass

from qsopt.physics.parameters import compiled_parameter_count
from qsopt.spec.layers import DenseFfn, Gqa, MoeFfn
from qsopt.spec.model import Model, moe_group


@dataclass(frozen=True)
class Measure:
    """One number of a shape."""

    name: str
    text: str
    """In words."""
    whole: bool = False
    """Whether it is a count."""


MEASURES = (
    Measure("hidden", "hidden size", whole=True),
    Measure("layers", "layers", whole=True),
    Measure("hidden_over_layers", "hidden over layers"),
    Measure("head_dim", "head size", whole=True),
    Measure("kv_heads", "KV heads", whole=True),
    Measure("heads_over_hidden", "width of all query heads over hidden"),
    Measure("width_over_hidden", "feed-forward width over hidden"),
    Measure("active_width_over_hidden", "width of a token's experts over hidden"),
    Measure("granularity", "granularity 2 h / expert width"),
    Measure("active_share", "share of experts that a token uses"),
    Measure("experts", "experts", whole=True),
    Measure("top_k", "top-k", whole=True),
    Measure("shared_experts", "shared experts", whole=True),
    Measure("attention_share", "share of attention in a token's parameters"),
    Measure("layers_for_size", "layers over those usual for the size"),
    Measure("leading_dense", "dense layers beside routed ones", whole=True),
)
"""All measures; a dense model has no routed ones, latent attention no KV heads."""

STEP = 128
"""Hidden sizes and widths are multiples of this, as kernels want them."""


def measures(model: Model) -> dict[str, float]:
    """The measures that a concrete decoder has, and its size, the geometric mean of total and
    active parameters.
    """
    hidden, layers = float(model.hidden), float(model.layers)
    count = compiled_parameter_count(model)
    active = float(count.active)
    size = float(count.total - count.resident) * active
    return {
        "hidden": hidden,
        "layers": layers,
        "hidden_over_layers": hidden / layers,
        "size": size**0.5,
        "attention_share": float(count.attention) / active,
        **_attention(model, hidden),
        **_feed_forward(model, hidden),
    }


def _attention(model: Model, hidden: float) -> dict[str, float]:
    """Of the first kind of softmax attention with grouped heads."""
    kinds = [layers.kind for layers in model.decoder.attention]
    grouped = next((kind for kind in kinds if isinstance(kind, Gqa)), None)
    if grouped is None:
        return {}
    dim = float(grouped.head_dim)
    return {
        "head_dim": dim,
        "kv_heads": float(grouped.kv_heads),
        "heads_over_hidden": float(grouped.heads) * dim / hidden,
    }


def _feed_forward(model: Model, hidden: float) -> dict[str, float]:
    group = moe_group(model)
    if group is None or not float(group.count) > 0:
        widest = max((_gated(layers.kind) for layers in model.decoder.ffn), default=None)
        return {} if widest is None else {"width_over_hidden": widest / hidden}
    moe = group.kind
    shared = float(moe.shared_experts)
    together = shared * float(moe.shared_width)
    active = float(moe.top_k) * float(moe.width) + together
    return {
        "active_width_over_hidden": active * float(moe.matrices) / 3.0 / hidden,
        "granularity": 2.0 * hidden / float(moe.width),
        "active_share": (float(moe.top_k) + shared) / (float(moe.experts) + shared),
        "experts": float(moe.experts),
        "top_k": float(moe.top_k),
        "shared_experts": shared,
        "leading_dense": sum(
            float(layers.count) for layers in model.decoder.ffn if isinstance(layers.kind, DenseFfn)
        ),
    }


def _gated(kind: DenseFfn | MoeFfn) -> float:
    """Width of a dense layer as one of three matrices would have it."""
    return float(kind.width) * float(kind.matrices) / 3.0


def off_step(model: Model) -> list[str]:
    """Sizes that are no multiples of `STEP`, in words."""
    sizes = {"hidden size": float(model.hidden)}
    for layers in model.decoder.ffn:
        routed = isinstance(layers.kind, MoeFfn)
        sizes["expert width" if routed else "feed-forward width"] = float(layers.kind.width)
    return [f"{name} {size:g}" for name, size in sizes.items() if size % STEP]
