"""How do answers on requests compare with those of aiconfigurator, and what makes the difference?

The question is the one that its page of published numbers answers: 16 H200, vLLM, bf16, 8k of
prompt and 1k of answer, a first token within 2 s and a token within 40 ms. Layouts are taken as
this package finds them, and then only those that the other tool enumerates: one pipeline stage,
sizes that are powers of two, no shared caches and no redundant experts.

    python -m experiments.peer_requests
"""

from collections.abc import Iterator

import jax
import numpy as np

import qsopt
from qsopt.deployments.batches import take
from qsopt.serving.plan import in_one_pool
from qsopt.serving.ranking import Option, best_of_each_way
from qsopt.serving.replica import Served
from qsopt.serving.ways import asked, layouts_of, lists, searched
from qsopt.spec.deployment import Deployment
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

PUBLISHED = {"qwen3-235b-a22b": (198.0, 221.0), "llama-3.1-70b": (222.0, None)}
"""Output tokens/s/GPU of aiconfigurator 0.12 in one pool and in two, as seen on 2026-11-25."""

THEIRS = {
    "qwen3-235b-a22b": Deployment(tensor=2, data=4, expert=8, batch=64),
    "llama-3.1-70b": Deployment(tensor=4, batch=32),
}
"""Replicas that write in its answers, with their batches."""


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    cluster = qsopt.load_cluster("16xh200")
    workload = qsopt.Workload(prompt=8192.0, answer=1024.0, ttft_limit=2.0, tpot_limit=0.04)
    rules = LayoutRules(stack="vllm")
    service = Service(cluster, workload, qsopt.load_efficiency("vllm", cluster), rules)
    for name, published in PUBLISHED.items():
        served = jax.tree.map(np.asarray, asked(qsopt.load_model(name), service))
        layouts = layouts_of(served.model, service)
        print(f"{name}: aiconfigurator says {published} tokens/s/GPU")
        for words, some in (
            ("all layouts", layouts),
            ("its layouts", take(layouts, _its(layouts))),
        ):
            for option in best(served, some):
                print(f"  {words}: {described(option, workload)}")
        plan = in_one_pool(THEIRS[name], 8192.0)
        reached = qsopt.serve(served.model, service, plan=plan, way="decode")
        print(f"  a step of its decode layout at its batch: {float(reached.tpot) * 1e3:.1f} ms")


def best(served: Served, layouts: Deployment) -> Iterator[Option]:
    every, groups = lists(layouts)
    return best_of_each_way(served, every, groups, searched(served, every, groups))


def described(option: Option, workload: qsopt.Workload) -> str:
    reached, decode, prefill = option.reached, option.plan.decode, option.plan.prefill
    readers = float(reached.prefill_replicas) * float(prefill.replica_devices)
    writers = float(reached.decode_replicas) * float(decode.replica_devices)
    read = float(reached.requests * workload.prompt) / readers
    return (
        f"{option.way} {float(reached.per_device):.0f} tokens/s/GPU, TPOT "
        f"{float(reached.tpot) * 1e3:.1f} ms, TTFT {float(reached.ttft):.2f} s, "
        f"{float(decode.batch * reached.decode_replicas) / writers:.1f} sequences/GPU on "
        f"{writers:.0f}, {read:,.0f} prompt tokens/s/GPU on {readers:.0f}; writes {sizes(decode)}, "
        f"reads {sizes(prefill)}"
    )


def sizes(layout: Deployment) -> str:
    names = {"tp": layout.tensor, "dp": layout.data, "pp": layout.pipeline, "ep": layout.expert}
    return " ".join(f"{name}{float(size):.0f}" for name, size in names.items())


def _its(layouts: Deployment) -> np.ndarray:
    devices = np.asarray(layouts.tensor * layouts.data)
    whole = np.log2(devices) % 1.0 == 0.0
    plain = (np.asarray(layouts.dcp) == 1) & (np.asarray(layouts.expert_slots) == 0)
    return whole & plain & (np.asarray(layouts.pipeline) == 1)


if __name__ == "__main__":
    main()
