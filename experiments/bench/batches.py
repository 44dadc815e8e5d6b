"""Designs and requests a second through the public API, and what a gradient costs."""

import functools
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import qsopt
from experiments.bench.clock import Row, by_turns
from qsopt.physics.evaluate import metrics
from qsopt.slopes.inputs import Design, design_inputs, scaled
from qsopt.spec.service import Service

CLUSTER, CONTEXT = "64xh100", 8192
LENGTHS = (10_000, 100_000, 1_000_000)
MODELS = {
    "deepseek-v3": "DeepSeek-V3 (latent attention, MoE)",
    "mixtral-8x7b": "Mixtral-8x7B (grouped attention, MoE)",
    "llama-3.1-70b": "Llama-3.1-70B (grouped attention, dense)",
}


def rows(repeats: int) -> Iterator[Row]:
    """Of decode steps, requests and gradients."""
    for name, words in MODELS.items():
        lengths = LENGTHS if name == "deepseek-v3" else LENGTHS[-1:]
        for length in lengths:
            yield Row(
                f"decode steps of {words}, {length:,} at once",
                steps_a_second(name, length, repeats),
                "designs/s",
                "5,000,000",
            )
    yield Row(
        f"decode steps of {MODELS['deepseek-v3']}, {LENGTHS[-1]:,} at once, constants folded",
        steps_a_second("deepseek-v3", LENGTHS[-1], repeats, fold_constants=True),
        "designs/s",
        "5,000,000",
    )
    for fold, words in ((False, ""), (True, ", constants folded")):
        yield Row(
            "requests to DeepSeek-V3, mixed steps, 200,000 mixes of prompt and answer at once"
            + words,
            requests_a_second(200_000, repeats, fold_constants=fold),
            "designs/s",
            "1,500,000",
        )
    yield from gradient_rows(repeats)


def steps_a_second(name: str, length: int, repeats: int, *, fold_constants: bool = False) -> float:
    """Throughput, TPOT and feasibility of so many designs."""
    model, cluster = qsopt.load_model(name), qsopt.load_cluster(CLUSTER)
    layouts = qsopt.legal_layouts(model, cluster)
    batch = jax.tree.map(lambda leaf: np.resize(np.asarray(leaf), (length,)), layouts)
    call = functools.partial(
        qsopt.evaluate_many,
        model,
        cluster,
        qsopt.Workload(CONTEXT),
        batch,
        fold_constants=fold_constants,
    )
    call()
    return length / by_turns(repeats, call)[0]


def requests_a_second(length: int, repeats: int, *, fold_constants: bool) -> float:
    """Throughput, both latencies and feasibility of so many mixes, of one plan."""
    prompts = np.geomspace(256.0, 1e5, length)
    answers = np.geomspace(16.0, 8e3, length)[::-1].copy()
    mixes = jax.vmap(lambda p, a: qsopt.Workload(prompt=p, answer=a))(prompts, answers)
    pool = qsopt.Deployment(tensor=1, data=32, expert=32, batch=1024)
    call = functools.partial(
        qsopt.evaluate_many,
        "deepseek-v3",
        CLUSTER,
        jax.tree.map(np.asarray, mixes),
        qsopt.Plan(pool, pool, 32 * 4096.0),
        way="mixed",
        outputs=("throughput", "ttft", "tpot", "feasible"),
        fold_constants=fold_constants,
    )
    call()
    return length / by_turns(repeats, call)[0]


def gradient_rows(repeats: int) -> Iterator[Row]:
    """Value and gradient of the throughput over the value alone, for a batch of layouts."""
    model, cluster = qsopt.load_model("deepseek-v3"), qsopt.load_cluster(CLUSTER)
    service = Service(cluster, qsopt.Workload(CONTEXT), qsopt.load_efficiency("fitted"))
    every = qsopt.legal_layouts(model, cluster)
    layouts = jax.tree.map(lambda leaf: jnp.resize(jnp.asarray(leaf), (4096,)), every)
    inputs = design_inputs(Design(model, service, jax.tree.map(lambda leaf: leaf[0], every)))

    def value(logs: Float[Array, " inputs"], layout: qsopt.Deployment) -> Array:
        moved = scaled(Design(model, service, layout), inputs, logs)
        return jnp.log(metrics(moved.model, moved.service, moved.deployment).throughput)

    at = jnp.zeros(len(inputs))
    alone = eqx.filter_jit(jax.vmap(value, in_axes=(None, 0)))
    both = eqx.filter_jit(jax.vmap(jax.value_and_grad(value), in_axes=(None, 0)))
    for function in (alone, both):
        jax.block_until_ready(function(at, layouts))
    one, two = by_turns(
        3 * repeats,
        lambda: jax.block_until_ready(alone(at, layouts)),
        lambda: jax.block_until_ready(both(at, layouts)),
    )
    what = f"value and gradient of {len(inputs)} inputs over the value, 4,096 designs of one batch"
    yield Row(what, two / one, "times", "3 times")
