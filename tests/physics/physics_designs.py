"""Designs that these tests share: models small enough to work by hand, a cluster, and efficiency
sets with nothing at zero.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt import (
    Cluster,
    Deployment,
    Model,
    Workload,
    load_cluster,
    load_efficiency,
    load_model,
    number_format,
)
from qsopt.deployments.layouts import legal_layouts
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import Format
from qsopt.spec.layers import DenseFfn, Gqa, Layers, LinearAttention, Mla, MoeFfn, Stack
from qsopt.spec.model import Precision

BF16 = number_format("bf16")

GQA = Gqa(heads=16, kv_heads=4, head_dim=64)
MLA = Mla(heads=16, q_rank=384, kv_rank=256, nope_dim=64, rope_dim=32, v_dim=64)
LINEAR = LinearAttention(
    heads=16, input_width=4096, output_width=1024, state_bytes=4e5, state_flops=3e5, inner=2e4
)
MOE = MoeFfn(experts=32, top_k=4, width=512, shared_experts=1, shared_width=512)
DENSE = DenseFfn(width=4096)
INDEXED = Mla(16, 384, 256, 64, 32, 64, index_heads=8, index_dim=32, index_top_k=2048)

STRUCTURES = ("gqa", "mla", "hybrid", "encoder-decoder")
"""Kinds of models whose derivatives and limits are checked."""


def precision(kv: Format = BF16, activation_bytes: float = 2.0) -> Precision:
    return Precision(BF16, BF16, BF16, BF16, kv, activation_bytes)


def silent() -> Precision:
    """No cache bytes and no activation bytes: weights are the only traffic."""
    return precision(Format(0.0, BF16.arithmetic, BF16.index), 0.0)


def build(
    attention,
    ffn,
    form: Precision | None = None,
    layers: float = 12.0,
    encoder: Stack | None = None,
) -> Model:
    """A model of 12 layers, 1024 wide, whose tables are one."""
    return Model(
        Stack(tuple(attention), tuple(ffn)),
        precision() if form is None else form,
        hidden=1024,
        vocabulary=8192,
        layers=layers,
        tied=1.0,
        encoder=encoder,
    )


@cache
def structure(name: str) -> Model:
    """A small MoE with norms, biases and separate tables."""
    moe = eqx.tree_at(lambda k: (k.small, k.expert_small), MOE, (np.array(1500.0), np.array(300.0)))
    routed = (Layers(12, moe),)
    models = {
        "gqa": build((Layers(12, GQA),), routed),
        "mla": build((Layers(8, MLA), Layers(4, INDEXED)), (Layers(2, DENSE), Layers(10, moe))),
        "hybrid": build(
            (Layers(9, LINEAR), Layers(3, eqx.tree_at(lambda k: k.window, GQA, np.array(4096.0)))),
            routed,
        ),
        "encoder-decoder": build(
            (Layers(12, GQA), Layers(12, eqx.tree_at(lambda k: k.cross, GQA, np.array(1.0)))),
            routed,
            encoder=Stack((Layers(12, GQA),), routed),
        ),
    }
    return eqx.tree_at(lambda m: (m.tied, m.small), models[name], (np.array(0.0), np.array(2000.0)))


@cache
def h100(devices: int) -> Cluster:
    return load_cluster(f"{devices}xh100")


def resized(cluster: Cluster, **changes: float) -> Cluster:
    """A cluster whose accelerator has other figures."""
    names = tuple(changes)
    values = tuple(np.asarray(value, dtype=float) for value in changes.values())
    return eqx.tree_at(
        lambda c: tuple(getattr(c.accelerator, name) for name in names), cluster, values
    )


def peaks(cluster: Cluster, factor: float) -> Cluster:
    return eqx.tree_at(
        lambda c: c.accelerator.peak_flops, cluster, cluster.accelerator.peak_flops * factor
    )


@cache
def rich() -> Efficiency:
    """The fitted set with every number positive and below its kinks, so that every derivative has
    something to say.
    """
    fitted = load_efficiency("fitted")

    def filled(operator):
        return eqx.tree_at(
            lambda o: (
                o.softness,
                o.half_tokens,
                o.half_width,
                o.half_batch,
                o.half_columns,
                o.half_rows,
                o.elsewhere,
            ),
            operator,
            (
                0.6 + 0.0 * operator.softness,
                12.0 + operator.half_tokens,
                30.0 + operator.half_width,
                0.4 + operator.half_batch,
                20.0 + operator.half_columns,
                100.0 + operator.half_rows,
                0.2 + operator.elsewhere,
            ),
        )

    names = ("gemm", "experts", "attention", "mla", "linear")
    changed = eqx.tree_at(
        lambda e: tuple(getattr(e, name) for name in names),
        fitted,
        tuple(filled(getattr(fitted, name)) for name in names),
    )
    return eqx.tree_at(
        lambda e: (
            e.straggler,
            e.imbalance_cv2,
            e.attention_overlap,
            e.ffn_overlap,
            e.scale_up.ramp,
            e.scale_out.ramp,
        ),
        changed,
        tuple(np.array(x) for x in (0.9, 0.1, 0.3, 0.2, 0.5, 0.3)),
    )


EFFICIENCIES = ("ideal", "fitted", "rich")


@cache
def efficiency(name: str) -> Efficiency:
    return rich() if name == "rich" else load_efficiency(name)


@cache
def layouts(name: str, devices: int) -> Deployment:
    """All legal layouts of a catalog model on that many H100, at their smallest batch."""
    return jax.tree.map(jnp.asarray, legal_layouts(load_model(name), h100(devices)))


def workload(context: float = 8192.0, **limits: float) -> Workload:
    return Workload(context, **limits)
