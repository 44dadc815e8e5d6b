"""Many designs at once: the numbers of one, whatever the length, the devices and the processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import qsopt
from qsopt import Deployment, InputError, Plan, Workload, evaluate_many
from qsopt.api import many

MODEL, CLUSTER = "mixtral-8x7b", "16xh100"


def layouts() -> Deployment:
    return qsopt.legal_layouts(qsopt.load_model(MODEL), qsopt.load_cluster(CLUSTER))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PART", 16)


def test_each_is_as_if_alone() -> None:
    every = layouts()
    count = len(every.tensor)
    assert count > 3 * many.PART
    assert count % many.PART != 0
    outputs = ("throughput", "tpot", "replicas", "feasible")
    found = evaluate_many(MODEL, CLUSTER, Workload(8192), every, outputs=outputs)
    for place in (0, 17, count // 2, count - 1):
        design = jax.tree.map(lambda leaf, place=place: leaf[place], every)
        alone = qsopt.evaluate(MODEL, CLUSTER, Workload(8192), design)
        for name in outputs:
            assert found[name].shape == (count,)
            assert found[name][place] == pytest.approx(float(getattr(alone, name)), rel=1e-12)


def test_workloads_may_vary_too() -> None:
    contexts = np.geomspace(1e3, 1e5, 20)
    design = Deployment(tensor=8, batch=16)
    found = evaluate_many(MODEL, CLUSTER, jax.vmap(Workload)(contexts), design)
    alone = [float(qsopt.evaluate(MODEL, CLUSTER, Workload(c), design).tpot) for c in contexts]
    np.testing.assert_allclose(found["tpot"], alone, rtol=1e-12)


def test_requests_by_their_plan() -> None:
    prompts = np.geomspace(100.0, 8000.0, 20)
    pool = Deployment(tensor=8, batch=16)
    plan = Plan(pool, pool, 2048.0)
    mixes = jax.vmap(lambda prompt: Workload(prompt=prompt, answer=200.0))(prompts)
    found = evaluate_many(
        MODEL, CLUSTER, mixes, plan, way="mixed", outputs=("throughput", "ttft", "requests")
    )
    workload = Workload(prompt=prompts[7], answer=200.0)
    alone = qsopt.serve(MODEL, CLUSTER, workload, plan=plan, way="mixed")
    for name, column in found.items():
        assert column[7] == pytest.approx(float(getattr(alone, name)), rel=1e-12)


def test_constants_that_are_folded_change_nothing() -> None:
    every = layouts()
    for cluster in (CLUSTER, "16xh200"):  # each has a program of its own
        plain, folded = (
            evaluate_many(MODEL, cluster, Workload(8192), every, fold_constants=fold)
            for fold in (False, True)
        )
        for name, column in plain.items():
            np.testing.assert_allclose(folded[name], column, rtol=1e-12)
    program: Any = many._of_constants
    assert program._cache_size() == 2
    again = evaluate_many(MODEL, CLUSTER, Workload(8192), every, fold_constants=True)
    assert program._cache_size() == 2
    assert not np.array_equal(again["tpot"], folded["tpot"])


def test_long_batches_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "FOLDED", 50)
    monkeypatch.setattr(many, "_of_constants", lambda constants, varying, **asked: 1 / 0)
    evaluate_many(MODEL, CLUSTER, jax.vmap(Workload)(np.geomspace(1e3, 1e5, 49)), Deployment())
    with pytest.raises(ZeroDivisionError):
        evaluate_many(MODEL, CLUSTER, jax.vmap(Workload)(np.geomspace(1e3, 1e5, 50)), Deployment())


def test_a_process_in_float32_has_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = evaluate_many(MODEL, CLUSTER, Workload(8192), layouts())
    with jax.enable_x64(False):
        single = evaluate_many(MODEL, CLUSTER, Workload(8192), layouts())
    for name, column in wide.items():
        assert single[name].dtype == column.dtype
        np.testing.assert_array_equal(single[name], column)


@pytest.mark.parametrize(
    ("deployment", "way", "outputs", "match"),
    [
        (None, None, ("tpot",), "give deployments"),
        (Deployment(), None, ("tpot",), "length none"),
        (layouts, None, ("speed",), "'speed' is none of fits_memory"),
        (layouts, None, ("memory",), "'memory' is none of"),
        (layouts, "mixed", ("tpot",), "plan together with its way"),
        (Plan(Deployment(), Deployment(), 64.0), None, ("tpot",), "plan together with its way"),
    ],
)
def test_what_cannot_be_asked(deployment, way, outputs, match) -> None:
    given: Any = deployment() if callable(deployment) else deployment
    with pytest.raises(InputError, match=match):
        evaluate_many(MODEL, CLUSTER, Workload(8192), given, way=way, outputs=outputs)


def test_lengths_must_agree() -> None:
    contexts = jax.vmap(Workload)(np.array([1e3, 1e4]))
    with pytest.raises(InputError, match="length 2 and"):
        evaluate_many(MODEL, CLUSTER, contexts, layouts())


def test_a_trace_is_sent_to_vmap() -> None:
    with pytest.raises(InputError, match=r"jax\.vmap"):
        jax.jit(lambda every: evaluate_many(MODEL, CLUSTER, Workload(8192), every))(layouts())


# ---- several devices, several processes ----------------------------------------------------------

PROGRAM = """
import sys
import jax
import numpy as np
if len(sys.argv) > 1:
    jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import qsopt
from qsopt.api import many
many.PART = 16
every = qsopt.legal_layouts(qsopt.load_model("mixtral-8x7b"), qsopt.load_cluster("16xh100"))
found = qsopt.evaluate_many("mixtral-8x7b", "16xh100", qsopt.Workload(8192), every)
print(jax.device_count(), jax.local_device_count(), len(every.tensor))
print(repr(float(np.sum(found["throughput"]))), int(np.sum(found["feasible"])))
"""


def started(devices: int, *arguments: str) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> list[str]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out.split()[-5:]  # what connects the processes prints before it


def expected() -> tuple[int, float, int]:
    found = evaluate_many(MODEL, CLUSTER, Workload(8192), layouts())
    return len(found["tpot"]), float(found["throughput"].sum()), int(found["feasible"].sum())


def test_eight_devices_share_the_work() -> None:
    count, total, feasible = expected()
    devices, local, length, throughput, kept = answer(started(8))
    assert (devices, local) == ("8", "8")
    assert (int(length), int(kept)) == (count, feasible)
    assert float(throughput) == pytest.approx(total, rel=1e-12)


@pytest.mark.slow
def test_two_processes_share_the_work() -> None:
    count, total, feasible = expected()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [started(2, address, str(process)) for process in range(2)]
    for devices, local, length, throughput, kept in map(answer, both):
        assert (devices, local) == ("4", "2")
        assert (int(length), int(kept)) == (count, feasible)
        assert float(throughput) == pytest.approx(total, rel=1e-12)
