"""Kinds of attention beyond the plain ones, worked by hand: shared keys and values, values that are
keys, indexers beside grouped heads, compressed entries; and their derivatives.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from qsopt.api.names import load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import load_model
from qsopt.physics import kv_cache, layer_weights, operators
from qsopt.physics.evaluate import metrics
from qsopt.physics.load import Load
from qsopt.spec.deployment import Deployment
from qsopt.spec.layers import Gqa, Mla
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

GQA = Gqa(heads=16, kv_heads=4, head_dim=64)
SHARED = dataclasses.replace(GQA, projected=0.0, cached=0.0)
SAME = dataclasses.replace(GQA, projected=0.5)
CHOSEN = dataclasses.replace(GQA, index_heads=4, index_dim=32, index_top_k=2048)
HEAVY = Mla(
    16, 384, 448, 448, 64, 512, direct=1.0, entry_tokens=128, recent=128, compressor=1024,
    output_rank=256, output_groups=4,
)  # fmt: skip
SPARSE = dataclasses.replace(
    HEAVY, entry_tokens=4, compressor=2432, index_heads=8, index_dim=128, index_top_k=512
)
LOAD = Load(sequences=8.0, new_tokens=1.0, context=32768.0, encoder_context=0.0, logits=1.0)


def cache(kind: Gqa | Mla) -> float:
    """Bytes of one sequence of 32768 tokens in one layer, in bf16."""
    return float(kv_cache.sequence_cache_bytes(kind, 32768.0, 0.0, 2.0))


def weights(kind: Gqa | Mla) -> float:
    return float(layer_weights.attention_weights(kind, 1024.0))


def core(kind: Gqa | Mla):
    model = load_model("llama-3.1-8b")
    return operators.attention_core(kind, model, LOAD, Deployment(batch=8), 0.0)


def test_shared_keys_and_values() -> None:
    """Neither projected nor cached, but read as by any other layer."""
    assert weights(GQA) - weights(SHARED) == 1024 * 2 * 4 * 64
    assert weights(GQA) - weights(SAME) == 1024 * 4 * 64
    assert (cache(SHARED), cache(SAME)) == (0.0, cache(GQA))
    assert float(core(SHARED).flops) == float(core(GQA).flops)
    written = 8 * 2 * 4 * 64 * 2
    assert float(core(GQA).bytes) - float(core(SHARED).bytes) == written


def test_indexer_beside_grouped_heads() -> None:
    """Keys of 32 bytes and a scale of 4 for each token; 2048 of 32768 tokens are read."""
    assert weights(CHOSEN) - weights(GQA) == 1024 * (4 * 32 + 32)
    assert cache(CHOSEN) - cache(GQA) == 32768 * 36
    assert float(core(CHOSEN).flops) == float(core(GQA).flops) * 2048 / 32768
    scores = operators.indexer(CHOSEN, LOAD, Deployment(batch=8))
    assert float(scores.flops) == 8 * 32768 * 2 * 4 * 32
    assert float(scores.bytes) == 8 * 36 * (32768 + 1)
    assert float(operators.indexer(GQA, LOAD, Deployment(batch=8)).bytes) == 0.0


def test_compressed_entries() -> None:
    """Entries of 512 numbers for 128 or 4 tokens, and the latest 128 tokens one by one."""
    assert cache(HEAVY) == (32768 / 128 + 128) * 512 * 2
    assert cache(SPARSE) == (32768 / 4 + 128) * 512 * 2 + 32768 / 4 * 132
    for kind, tokens in ((HEAVY, 32768 / 128 + 128), (SPARSE, 512 + 128)):
        assert float(core(kind).flops) == 8 * tokens * 2 * 16 * 2 * 512
        assert float(core(kind).bytes) == 8 * 512 * 2 * (tokens + 1)
    scores = operators.indexer(SPARSE, LOAD, Deployment(batch=8))
    assert float(scores.flops) == 8 * 32768 / 4 * 2 * 8 * 128


def test_weights_without_up_projections() -> None:
    """Query through its rank, entries, compressor, and an output of four groups of rank 256."""
    query = 1024 * 384 + 384 * 16 * 512
    output = 16 * 512 * 256 + 4 * 256 * 1024
    assert weights(HEAVY) == query + 1024 * (512 + 1024) + output
    more = 1024 * (2432 - 1024) + 384 * 8 * 128 + 1024 * (128 + 8)
    assert weights(SPARSE) - weights(HEAVY) == more


@pytest.mark.parametrize("name", ["deepseek-v4-flash", "gemma-4-26b-a4b", "hunyuan-large"])
def test_derivatives_are_finite(name: str) -> None:
    model = load_model(name)
    service = Service(load_cluster("8xh200"), Workload(8192.0), load_efficiency("fitted"))

    def throughput(model):
        return metrics(model, service, Deployment(tensor=8, expert=8, batch=32)).throughput

    slopes = eqx.filter_grad(throughput)(jax.tree.map(jnp.asarray, model))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
