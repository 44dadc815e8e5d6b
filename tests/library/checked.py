"""Formulas of one design, quality laws and the questions on top of them, with the types and shapes
of every call checked as they are annotated.

usage: checked.py [x64]
"""

import sys
import warnings
from contextlib import suppress

warnings.simplefilter("error")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jaxtyping import TypeCheckError, install_import_hook  # noqa: E402

if sys.argv[1:2] == ["x64"]:
    jax.config.update("jax_enable_x64", True)

ROOMS = ("physics", "quality", "serving", "slopes")
"""Where numbers of one design are passed between formulas. Layouts and matches are worked on in
lists, element by element, and have no one shape.
"""

install_import_hook([f"qsopt.{room}" for room in ROOMS], "shapes.checked")

import qsopt  # noqa: E402
from qsopt.physics import smooth  # noqa: E402

PHRASE = "8xh200"
DESIGNS = {
    "mixtral-8x7b": qsopt.Deployment(tensor=2, data=2, expert=4, batch=64),
    "deepseek-v3.2": qsopt.Deployment(data=8, expert=8, batch=128, dispatched=1),
    "qwen3-next-80b-a3b": qsopt.Deployment(tensor=4, expert=4, pipeline=2, batch=16),
    "llama-3.1-70b": qsopt.Deployment(tensor=8, batch=32),
    "switch-c": qsopt.Deployment(data=8, expert=8, batch=8),
}
"""Every kind of attention and of feed-forward layer, and every way to spread them."""


def steps_and_prompts() -> None:
    cluster, workload = qsopt.load_cluster(PHRASE), qsopt.Workload(4096.0, encoder_context=256.0)
    for name, layout in DESIGNS.items():
        model = qsopt.load_model(name)
        for efficiency in map(qsopt.load_efficiency, ("fitted", "ideal")):
            qsopt.evaluate(model, cluster, workload, layout, efficiency)
        qsopt.evaluate(model, cluster, workload, layout, softness=0.1)
        qsopt.prefill(model, cluster, workload, layout)


def transformed() -> None:
    def throughput(context: jax.Array) -> jax.Array:
        layout = DESIGNS["mixtral-8x7b"]
        return qsopt.evaluate("mixtral-8x7b", PHRASE, qsopt.Workload(context), layout).throughput

    jax.jit(jax.vmap(jax.grad(throughput)))(jnp.asarray([1e3, 1e4]))


def laws() -> None:
    for law in qsopt.laws():
        for name in ("mixtral-8x7b", "deepseek-v3"):
            with suppress(qsopt.InputError):  # where it is unphysical for the model
                qsopt.belief(name, law, 1e12)
                qsopt.belief(name, law, 1e12, raw=True)


def questions() -> None:
    """Requests by given ways, and slopes of a layout."""
    cluster, layout = "2xh200", qsopt.Deployment(tensor=2, expert=2, batch=64)
    requests, plan = qsopt.Workload(prompt=1024.0, answer=256.0), qsopt.Plan(layout, layout, 2048.0)
    for way in ("mixed", "disaggregated"):
        qsopt.serve("mixtral-8x7b", cluster, requests, plan=plan, way=way)
    qsopt.sensitivity("mixtral-8x7b", cluster, qsopt.Workload(8192.0), layout)


def refusals() -> None:
    """A batch where one number is meant, and a text."""
    for wrong in (jnp.ones(3), "1"):
        try:
            smooth.step(wrong)
        except TypeCheckError:
            continue
        raise AssertionError(f"{wrong} was taken for a number")


if __name__ == "__main__":
    for step in (steps_and_prompts, transformed, laws, questions, refusals):
        step()
        print(step.__name__, flush=True)
