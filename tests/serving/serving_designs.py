"""Small models, clusters and services that these tests share, with nothing at zero where
derivatives are checked.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt import Cluster, Deployment, Model, Workload, load_cluster, load_efficiency, number_format
from qsopt.serving.replica import Served
from qsopt.serving.speculation import next_token_layer
from qsopt.spec.efficiency import Efficiency, Server
from qsopt.spec.layers import DenseFfn, Gqa, Layers, LinearAttention, Mla, MoeFfn, Stack
from qsopt.spec.model import Precision
from qsopt.spec.server_memory import ServerMemory
from qsopt.spec.service import Service

BF16 = number_format("bf16")
GQA = Gqa(heads=16, kv_heads=4, head_dim=64, small=100.0)
WINDOWED = Gqa(heads=16, kv_heads=4, head_dim=64, window=3000.0)
MLA = Mla(heads=16, q_rank=384, kv_rank=256, nope_dim=64, rope_dim=32, v_dim=64)
INDEXED = Mla(16, 384, 256, 64, 32, 64, index_heads=8, index_dim=32, index_top_k=2048)
LINEAR = LinearAttention(
    heads=16, input_width=4096, output_width=1024, state_bytes=4e5, state_flops=3e5, inner=2e4
)
MOE = MoeFfn(32, 4, 512, shared_experts=1, shared_width=512, expert_small=300.0, small=1500.0)
DENSE = DenseFfn(width=4096)


def build(attention, ffn, layers: float = 12.0, activation_bytes: float = 2.0) -> Model:
    """A model 1024 wide."""
    form = Precision(BF16, BF16, BF16, BF16, BF16, activation_bytes)
    return Model(Stack(tuple(attention), tuple(ffn)), form, 1024, 8192, layers, small=2000.0)


@cache
def structure(name: str) -> Model:
    """A small model of one kind of attention or of several."""
    routed = (Layers(2, DENSE), Layers(10, MOE))
    return {
        "dense": build((Layers(12, GQA),), (Layers(12, DENSE),)),
        "gqa": build((Layers(12, GQA),), (Layers(12, MOE),)),
        "mla": build((Layers(8, MLA), Layers(4, INDEXED)), routed),
        "hybrid": build((Layers(8, LINEAR), Layers(4, WINDOWED)), routed),
    }[name]


@cache
def cluster(phrase: str = "8xh100") -> Cluster:
    return load_cluster(phrase)


def with_reserve(efficiency: Efficiency, reserve: float) -> Efficiency:
    """The set with so much reserve [byte] and nothing else that a server keeps."""
    return eqx.tree_at(
        lambda e: (e.reserve_bytes, e.memory), efficiency, (np.asarray(reserve), ServerMemory())
    )


@cache
def efficiency(name: str) -> Efficiency:
    """A shipped set, or `rich`: the fitted one with every number positive and below its kinks."""
    if name != "rich":
        return load_efficiency(name)
    fitted = load_efficiency("fitted")
    kinds = ("gemm", "experts", "attention", "mla", "linear", "prefill_attention", "prefill_mla")

    def filled(operator):
        return eqx.tree_at(
            lambda o: (o.softness, o.half_tokens, o.half_width, o.half_batch),
            operator,
            (
                0.6 + 0.0 * operator.softness,
                12.0 + operator.half_tokens,
                30.0 + operator.half_width,
                0.4 + operator.half_batch,
            ),
        )

    changed = eqx.tree_at(
        lambda e: tuple(getattr(e, kind) for kind in kinds),
        fitted,
        tuple(filled(getattr(fitted, kind)) for kind in kinds),
    )
    numbers = ("straggler", "imbalance_cv2", "attention_overlap", "ffn_overlap", "prefill_overlap")
    return eqx.tree_at(
        lambda e: (*(getattr(e, name) for name in numbers), e.server, e.scale_up.ramp),
        changed,
        (
            *(np.array(value) for value in (0.9, 0.1, 0.3, 0.2, 0.4)),
            Server(1.1, 2e-3, 1.2, 3e-3, 0.8, 0.3, 4e-5, 1e-3),
            np.array(0.5),
        ),
    )


def workload(**changes: float) -> Workload:
    return Workload(**{"prompt": 4096.0, "answer": 700.0, **changes})


def served(
    model: Model | str = "gqa",
    which: Efficiency | str = "fitted",
    on: str | Cluster = "8xh100",
    drafts: bool = False,
    softness: float = 0.0,
    **changes: float,
) -> Served:
    """A small model served on a cluster."""
    made = structure(model) if isinstance(model, str) else model
    service = Service(
        cluster(on) if isinstance(on, str) else on,
        workload(**changes),
        efficiency(which) if isinstance(which, str) else which,
    )
    draft = next_token_layer(made) if drafts else None
    found = Served(made, service, draft, softness=jnp.asarray(softness))
    return jax.tree.map(jnp.asarray, found)


def deployment(**sizes: float) -> Deployment:
    return jax.tree.map(jnp.asarray, Deployment(**sizes))
