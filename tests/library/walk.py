"""The whole public API in one process, in an order that the caller names; prints what it answers.

usage: walk.py [float32 or x64 [STEP...]]; every step if none is named
"""

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

warnings.simplefilter("error")

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

if sys.argv[1:2] == ["x64"]:
    jax.config.update("jax_enable_x64", True)

import qsopt  # noqa: E402

NAME, PHRASE, CONTEXT = "mixtral-8x7b", "2xh200", 8192.0
MODEL, CLUSTER, FITTED = (
    qsopt.load_model(NAME),
    qsopt.load_cluster(PHRASE),
    qsopt.load_efficiency("fitted"),
)
WORKLOAD = qsopt.Workload(CONTEXT)
LAYOUT = qsopt.Deployment(tensor=2, expert=2, batch=64, dispatched=1)
CONTEXTS = jnp.asarray([1000.0, CONTEXT])


def throughput(context: Any) -> Any:
    return qsopt.evaluate(MODEL, CLUSTER, qsopt.Workload(context), LAYOUT, FITTED).throughput


def first_token(context: Any) -> Any:
    return qsopt.prefill(MODEL, CLUSTER, qsopt.Workload(context), LAYOUT, FITTED).seconds


def many() -> list[float]:
    contexts = jax.vmap(qsopt.Workload)(np.asarray([1000.0, CONTEXT]))
    return qsopt.evaluate_many(NAME, PHRASE, contexts, LAYOUT, FITTED)["tpot"].tolist()


def served(prompt: Any) -> Any:
    workload = qsopt.Workload(prompt=prompt, answer=256.0)
    plan = qsopt.Plan(LAYOUT, LAYOUT, 2048.0)
    return qsopt.serve(MODEL, CLUSTER, workload, FITTED, plan=plan, way="mixed").throughput


def ratio(context: Any, q: Any = 1.9) -> Any:
    return qsopt.compare(MODEL, CLUSTER, qsopt.Workload(context), FITTED, q=q).ratio


def slopes() -> list[float]:
    """Of a design with respect to every number in it: all finite."""
    numbers, rest = eqx.partition((MODEL, CLUSTER, LAYOUT, FITTED), eqx.is_inexact_array)

    def log_throughput(numbers: Any) -> Any:
        model, cluster, layout, efficiency = eqx.combine(numbers, rest)
        return jnp.log(qsopt.evaluate(model, cluster, WORKLOAD, layout, efficiency).throughput)

    leaves = jax.tree.leaves(jax.jit(jax.grad(log_throughput))(numbers))
    return np.concatenate([np.ravel(leaf) for leaf in leaves]).tolist()


def optimum() -> float:
    problem = qsopt.design_problem(NAME, PHRASE, WORKLOAD, vary=["tp", "batch"])
    return qsopt.optimize(problem, starts=2, certify=0).value


def proposal() -> list[float]:
    """Of the best dense design."""
    found = qsopt.propose(NAME, PHRASE, WORKLOAD, family="dense").to_dict()
    best = found["proposals"][0]
    return [best["metrics"]["tokens_per_s_per_device"], best["parameters"]["total"]]


def catalog() -> list[float]:
    """Numbers of what has a name."""
    layouts = qsopt.legal_layouts(NAME, PHRASE)
    return [
        float(len(qsopt.model_names())),
        float(len(qsopt.accelerator_names())),
        float(len(qsopt.laws())),
        qsopt.load_accelerator("h200").bandwidth,
        qsopt.number_format("nvfp4").bytes,
        qsopt.ideal().reserve_bytes,
        qsopt.belief(NAME, qsopt.law("geometric")).q,
        *layouts.tensor,
    ]


def flip() -> list[float]:
    found = qsopt.crossovers(NAME, PHRASE, WORKLOAD, over="context", low=1200.0, high=1400.0)
    return [crossing.value for crossing in found.crossings]


def map_of_four() -> list[list[float]]:
    service = qsopt.Service(CLUSTER, WORKLOAD, FITTED)
    x = qsopt.axis("context", MODEL, service, 1e3, 1e4, 2)
    y = qsopt.axis("bandwidth", MODEL, service, 2e12, 4e12, 2)
    return qsopt.phase_map(MODEL, service, x=x, y=y, interval=False).ratio.tolist()


STEPS: dict[str, Callable[[], Any]] = {
    "evaluate": lambda: throughput(CONTEXT),
    "many": many,
    "prefill": lambda: first_token(CONTEXT),
    "requests": lambda: served(CONTEXT),
    "compare": lambda: qsopt.compare(NAME, PHRASE, WORKLOAD, q=1.9).ratio,
    "optimize": optimum,
    "propose": proposal,
    "lifetime": lambda: (
        qsopt.lifetime(NAME, PHRASE, WORKLOAD, q=1.9, tokens=1e12).plans["moe"].fixed
    ),
    "sensitivity": lambda: qsopt.sensitivity(NAME, PHRASE, WORKLOAD, LAYOUT).fixed.elasticity,
    "crossovers": flip,
    "map": map_of_four,
    "belief": lambda: qsopt.belief(NAME, "tian").interval,
    "sweep": lambda: qsopt.sweep(
        NAME, PHRASE, WORKLOAD, deployment=LAYOUT, over={"context": [1e3, 8e3]}, metrics=["tpot"]
    ).to_dict(),
    "software": lambda: qsopt.evaluate(NAME, PHRASE, WORKLOAD, LAYOUT, "vllm").tpot,
    "catalog": catalog,
    "counts": lambda: [
        qsopt.parameter_count(MODEL).total,
        qsopt.kv_bytes_per_token(NAME),
        qsopt.geometric_q(MODEL),
        qsopt.parameter_count(qsopt.dense_twin(NAME, 1.9)).total,
    ],
    "jit of evaluate": lambda: jax.jit(throughput)(CONTEXT),
    "vmap of evaluate": lambda: jax.vmap(throughput)(CONTEXTS),
    "grad of evaluate": lambda: jax.grad(throughput)(CONTEXT),
    "grad of prefill": lambda: jax.grad(first_token)(CONTEXT),
    "grad of requests": lambda: jax.grad(served)(CONTEXT),
    "slopes of a design": slopes,
    "jit of compare": lambda: jax.jit(ratio)(CONTEXT),
    "vmap of compare": lambda: jax.vmap(ratio)(CONTEXTS),
    "grad of compare": lambda: jax.grad(ratio, argnums=(0, 1))(CONTEXT, 1.9),
}
"""Every public function, plain and transformed."""


def plain(value: Any) -> Any:
    """Numbers of Python, all finite."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    number = np.asarray(value, dtype=float)
    assert np.isfinite(number).all(), number
    return number.tolist()


if __name__ == "__main__":
    print(json.dumps({name: plain(STEPS[name]()) for name in sys.argv[2:] or STEPS}))
