"""Layers that share sets of weights: in memory once; read, computed with, cached in every layer."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from physics_designs import DENSE, GQA, LINEAR, build, h100

from qsopt import Deployment, Model, Workload, evaluate, load_efficiency
from qsopt.errors import InputError
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.memory import memory
from qsopt.physics.parameters import parameter_count
from qsopt.physics.training import forward_flops
from qsopt.spec.layers import Layers, unshared
from qsopt.spec.service import Service

SMALL_GQA, SMALL_DENSE = replace(GQA, inputs=2.0, small=300.0), replace(DENSE, small=200.0)
BLOCK = 1024 * 64 * (2 * (16 + 2 * 4) + 16) + 3 * 1024 * 4096
"""Matrices of one attention, whose input is twice as wide as hidden, and one feed-forward."""


def sharing(sets: float | None, layers: float = 6.0) -> Model:
    return build(
        (Layers(layers, SMALL_GQA, sets), Layers(12, LINEAR)), (Layers(layers, SMALL_DENSE, sets),)
    )


def service() -> Service:
    return Service(h100(8), Workload(4096.0), load_efficiency("ideal"))


def weights(model: Model, **sizes: float) -> float:
    return float(memory(model, service(), Deployment(**sizes)).weights)


@pytest.mark.parametrize("sets", [1, 2, 6])
def test_parameters_and_memory_count_each_set_once(sets: int) -> None:
    spared = (6 - sets) * (BLOCK + 500)
    own, shared = sharing(None), sharing(sets)
    for part in ("total", "active"):
        counted = [float(getattr(parameter_count(model), part)) for model in (own, shared)]
        assert counted[0] - counted[1] == spared
    assert weights(own) - weights(shared) == pytest.approx(2 * spared)
    each = 2 * (6 - sets) * (BLOCK / 4 + 500)
    assert weights(own, tensor=4) - weights(shared, tensor=4) == pytest.approx(each)


def test_a_stage_holds_every_set_that_it_uses() -> None:
    """Of six layers with two sets, two stages of three hold both each, six stages of one hold
    one.
    """
    ends = weights(build((), ()), pipeline=2)
    states = weights(build((Layers(12, LINEAR),), ())) - weights(build((), ()))
    for stages, held in ((2, 2), (6, 1)):
        expected = ends + states / stages + 2 * held * (BLOCK + 500)
        assert weights(sharing(2), pipeline=stages) == pytest.approx(expected, rel=1e-12)


def test_time_cache_and_arithmetic_are_those_of_every_layer() -> None:
    answers = [
        evaluate(
            model, h100(8), Workload(4096.0), Deployment(tensor=2, batch=8), efficiency="ideal"
        )
        for model in (sharing(None), sharing(1))
    ]
    assert float(answers[0].tpot) == float(answers[1].tpot)
    assert float(answers[0].memory.kv_cache) == float(answers[1].memory.kv_cache)
    assert float(kv_bytes_per_token(sharing(1))) == 6 * 2 * 4 * 64 * 2
    flops = [float(forward_flops(model, np.array(512.0))) for model in (sharing(None), sharing(1))]
    assert flops[0] == flops[1]


def test_derivatives_are_finite_and_those_of_each_set() -> None:
    model = sharing(2)

    def held(sets: jax.Array, hidden: jax.Array) -> jax.Array:
        moved = eqx.tree_at(
            lambda m: (m.decoder.attention[0].sets, m.decoder.ffn[0].sets, m.hidden),
            model,
            (sets, sets, hidden),
        )
        return memory(moved, service(), Deployment()).weights

    by_set, by_hidden = jax.grad(held, (0, 1))(jnp.array(2.0), jnp.array(1024.0))
    assert float(by_set) == pytest.approx(2 * (BLOCK + 500))
    step = jnp.array(1e-3)
    central = (held(jnp.array(2.0), 1024 + step) - held(jnp.array(2.0), 1024 - step)) / (2 * step)
    assert float(by_hidden) == pytest.approx(float(central), rel=1e-6)
    tpot = jax.grad(
        lambda width: (
            evaluate(
                eqx.tree_at(lambda m: m.decoder.ffn[0].kind.width, model, width),
                h100(8),
                Workload(4096.0),
                Deployment(batch=8),
                efficiency="ideal",
            ).tpot
        )
    )(jnp.array(4096.0))
    assert np.isfinite(float(tpot)) and float(tpot) > 0


def test_models_without_sharing_have_the_structure_they_had() -> None:
    model = sharing(None)
    assert len(jax.tree.leaves(model)) == len(jax.tree.leaves(sharing(1))) - 2
    assert jax.tree.structure(unshared(sharing(1))) == jax.tree.structure(model)
    assert "sets" not in str(model) and "sets=1" in str(sharing(1))
    assert sharing(1).to_dict()["decoder"]["ffn"][0]["sets"] == 1


def test_no_set_is_refused() -> None:
    with pytest.raises(InputError, match="share at least one set"):
        Layers(6, DENSE, 0.0)
