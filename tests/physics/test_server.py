"""What a server adds to the operators, for decode steps and requests alike."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsopt
from qsopt import Deployment, Workload
from qsopt.fitted.sets import shipped_set
from qsopt.physics.evaluate import metrics
from qsopt.physics.step import OPERATORS
from qsopt.serving.metrics import request_metrics
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.spec.efficiency import Server
from qsopt.spec.formats import FORMATS, number_format
from qsopt.spec.service import Service

MODEL, CLUSTER = qsopt.load_model("mixtral-8x7b"), qsopt.load_cluster("8xh100")
LAYOUT = jax.tree.map(
    jnp.asarray, Deployment(tensor=2.0, data=2.0, pipeline=2.0, expert=4.0, batch=64.0)
)
KERNELS = qsopt.load_efficiency("kernels")
SERVER = Server(0.9, 2e-3, 1.2, 3e-3, 0.8, 0.0, 5e-5, 2e-3)
HOST = OPERATORS.index("host")


def service(server: Server, **workload: float) -> Service:
    made = eqx.tree_at(lambda e: e.server, KERNELS, server)
    return Service(CLUSTER, Workload(**(workload or {"context": 8192.0})), made)


def test_the_default_adds_nothing() -> None:
    found = metrics(MODEL, service(Server()), LAYOUT)
    assert float(found.breakdown.seconds[HOST]) == 0.0
    for name in ("ideal", "kernels"):
        assert eqx.tree_equal(qsopt.load_efficiency(name).server, Server())


def test_a_step_is_scaled_and_waits_for_the_host() -> None:
    """0.9 of the operators, 2 ms and 32 layers of 0.05 ms: 3.6 ms a step through both stages."""
    bare = metrics(MODEL, service(Server()), LAYOUT)
    found = metrics(MODEL, service(SERVER), LAYOUT)
    assert float(found.step) == pytest.approx(0.9 * float(bare.step) + 3.6e-3, rel=1e-12)
    assert float(jnp.sum(found.breakdown.seconds)) == pytest.approx(float(found.step), rel=1e-12)
    assert float(found.breakdown.seconds[HOST]) == pytest.approx(3.6e-3, rel=1e-12)
    np.testing.assert_allclose(found.breakdown.memory, bare.breakdown.memory, rtol=1e-12)


@pytest.mark.parametrize(("name", "form"), [("mixtral-8x7b", "experts"), ("qwen3-8b", "ffn")])
def test_a_scale_goes_by_the_format_of_experts_or_feed_forward_layers(name: str, form: str) -> None:
    """Half as long for weights in fp8, whatever the format of the rest; prompts take as long."""
    factors = np.where(np.array(FORMATS) == "fp8", 0.5, 1.0)
    server = eqx.tree_at(lambda s: s.by_format, Server(), factors)
    wide = qsopt.load_model(name)
    narrow = eqx.tree_at(lambda m: getattr(m.precision, form), wide, number_format("fp8"))
    layout = Deployment(tensor=2.0, batch=16.0)
    requests = {"prompt": 2048.0, "answer": 128.0}
    for model, factor in ((wide, 1.0), (narrow, 0.5)):
        bare, found = (metrics(model, service(one), layout) for one in (Server(), server))
        assert float(found.step) == pytest.approx(factor * float(bare.step), rel=1e-12)
        bare, found = (
            qsopt.prefill(model, service(one, **requests), layout) for one in (Server(), server)
        )
        assert float(found.seconds) == pytest.approx(float(bare.seconds), rel=1e-12)


def test_steps_of_several_tokens_wait_for_the_host_once() -> None:
    question = {"context": 8192.0, "tokens_per_step": 3.0}
    bare = metrics(MODEL, service(Server(), **question), LAYOUT)
    found = metrics(MODEL, service(SERVER, **question), LAYOUT)
    expected = (0.9 * float(bare.step) + 3.6e-3) / 3.0
    assert float(found.tpot) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["fitted", "vllm", "kernels"])
def test_serving_and_evaluating_a_step_are_one_formula(name: str) -> None:
    efficiency = qsopt.load_efficiency(name, CLUSTER)
    requests = Workload(prompt=4096.0, answer=1024.0)
    asked = Service(CLUSTER, requests, efficiency)
    plan = Plan(LAYOUT, LAYOUT, jnp.asarray(8192.0))
    served = jax.tree.map(jnp.asarray, Served(MODEL, asked))
    alone = request_metrics(served, plan, "decode")
    step = metrics(MODEL, Service(CLUSTER, requests.decode_alone, efficiency), LAYOUT)
    assert float(alone.tpot) == pytest.approx(float(step.tpot), rel=1e-12)


def test_a_first_token_comes_later_by_its_layers() -> None:
    """1.2 of the operators and 3 ms in each of both stages, then 32 layers of 2 ms."""
    question = {"prompt": 2048.0, "answer": 128.0}
    bare = qsopt.prefill(MODEL, service(Server(), **question), LAYOUT)
    found = qsopt.prefill(MODEL, service(SERVER, **question), LAYOUT)
    expected = 1.2 * float(bare.seconds) + 2 * 3e-3 + 32 * 2e-3
    assert float(found.seconds) == pytest.approx(expected, rel=1e-9)


def test_derivatives_by_what_a_server_adds() -> None:
    """Against central differences."""

    def log_tpot(values: jax.Array) -> jax.Array:
        server = Server(scale=values[0], host=values[1], host_layer=values[2])
        return jnp.log(metrics(MODEL, service(server), LAYOUT).tpot)

    at = jnp.array([0.9, 2e-3, 5e-5])
    slope = jax.jit(jax.grad(log_tpot))(at)
    compiled = jax.jit(log_tpot)
    for place, value in enumerate(at):
        step = 1e-4 * value * jnp.eye(3)[place]
        central = (compiled(at + step) - compiled(at - step)) / (2e-4 * value)
        assert float(slope[place]) == pytest.approx(float(central), rel=1e-6)


def test_a_file_may_state_what_a_server_adds(tmp_path) -> None:
    text = shipped_set().read_text("utf-8")
    text += "\n[server]\nhost_ms = 2\nhost_layer_us = 50\nfirst_layer_us = 2000\n"
    (tmp_path / "own.toml").write_text(text)
    found = qsopt.load_efficiency(tmp_path / "own.toml").server
    expected = Server(host=2e-3, host_layer=5e-5, first_layer=2e-3)
    for field in dataclasses.fields(Server):
        value, wanted = (getattr(one, field.name) for one in (found, expected))
        np.testing.assert_allclose(value, wanted, rtol=1e-12)
