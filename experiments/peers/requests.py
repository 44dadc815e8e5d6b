"""Requests under limits: the best plan of aiconfigurator, that plan by the clock of qsopt, and the
best plans of qsopt, in all layouts and in those that aiconfigurator enumerates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import equinox as eqx
import jax
import numpy as np

import qsopt
from experiments.peers.interpreters import Installed
from experiments.peers.questions import REQUESTS, Requests, hub_config
from qsopt.deployments.batches import take
from qsopt.serving.plan import Plan, in_one_pool
from qsopt.serving.ranking import Option, best_of_each_way
from qsopt.serving.ways import asked, layouts_of, lists, searched
from qsopt.spec.deployment import Deployment
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

ASKED = "aiconfigurator"
"""The only peer that answers about requests."""
HIDDEN = 0.9
"""Share of messages that DeepSeek-V3's own deployment hides while it reads prompts."""
POOLS = {"one_pool": ("mixed", "alternating"), "disaggregated": ("disaggregated",)}


def rows(peers: Sequence[Installed], repeats: int) -> list[dict[str, Any]]:
    """For each question what aiconfigurator says, if it was given, and what qsopt says.

    Args:
        peers: that are asked.
        repeats: of timings; nothing is timed here.
    """
    del repeats
    (peer,) = [each for each in peers if each.peer.name == ASKED] or [None]
    return [row(peer, question) for question in REQUESTS]


def row(peer: Installed | None, question: Requests) -> dict[str, Any]:
    """One model."""
    service = service_of(question)
    theirs = None if peer is None else peer.ask("requests", **asdict(question))
    if theirs is not None:
        for pools in POOLS:
            theirs[pools]["added_up"] = added_up(question, theirs[pools], pools)
            theirs[pools]["qsopt"] = by_our_clock(question, service, theirs[pools], pools)
    return {
        **asdict(question),
        "cluster": question.cluster,
        "peer": theirs,
        "best": {pools: best(question, service, ways) for pools, ways in POOLS.items()},
        "their_layouts": dict(in_their_layouts(question, service)),
        "hidden": {pools: most(question, hidden(service), ways) for pools, ways in POOLS.items()},
    }


def service_of(question: Requests) -> Service:
    """The cluster, the requests, and what the software reaches there."""
    cluster = qsopt.load_cluster(question.cluster)
    workload = qsopt.Workload(
        prompt=float(question.prompt),
        answer=float(question.answer),
        ttft_limit=question.ttft_limit,
        tpot_limit=question.tpot_limit,
    )
    efficiency = qsopt.load_efficiency(question.stack, cluster)
    return Service(cluster, workload, efficiency, LayoutRules(stack=question.stack))


# ---- its plan ------------------------------------------------------------------------------------


def added_up(question: Requests, theirs: dict[str, Any], pools: str) -> float:
    """Output tokens/s/device that its times of a step and of a forward make without its
    corrections: one pool does both by turns, of two pools the slower decides.
    """
    write, read = theirs["decode"], theirs["prefill"]
    writes = write["replicas"] * write["data"] * write["batch"] / theirs["step_s"]
    prompts = read["replicas"] * read["data"] * read["batch"] / theirs["forward_s"]
    reads = prompts * question.answer
    tokens = 1.0 / (1.0 / writes + 1.0 / reads) if pools == "one_pool" else min(writes, reads)
    return tokens / theirs["devices"]


def by_our_clock(
    question: Requests, service: Service, theirs: dict[str, Any], pools: str
) -> dict[str, float]:
    """What its plan reaches by qsopt, with its batch."""
    write, read = layout(theirs["decode"]), layout(theirs["prefill"])
    tokens = float(read.batch) * question.prompt
    plan = in_one_pool(write, tokens) if pools == "one_pool" else Plan(write, read, tokens)
    way = "alternating" if pools == "one_pool" else pools
    reached = qsopt.serve(question.model, service, plan=plan, way=way)
    alone = qsopt.serve(question.model, service, plan=plan, way="decode")
    return {
        "per_device": float(reached.per_device),
        "step_s": float(alone.tpot),
        "ttft_s": float(reached.ttft),
        "tpot_s": float(reached.tpot),
    }


def layout(sizes: dict[str, int]) -> Deployment:
    """Its layout; its batch is that of an attention rank."""
    parallel = {name: sizes[name] for name in ("tensor", "data", "pipeline", "expert")}
    return Deployment(**parallel, batch=sizes["batch"] * sizes["data"])


# ---- our plans -----------------------------------------------------------------------------------


def best(question: Requests, service: Service, ways: tuple[str, ...]) -> dict[str, Any]:
    """The best plan of qsopt in these ways."""
    found = qsopt.serve(question.model, service, ways=ways, top=1)
    intervals = found.to_dict()["best"]["intervals"]["tokens_per_s_per_device"]
    assert found.best is not None
    return {**reached(found.best), "interval_80": intervals["80"]}


def most(question: Requests, service: Service, ways: tuple[str, ...]) -> float:
    """Output tokens/s/device of the best plan in these ways."""
    found = qsopt.serve(question.model, service, ways=ways, top=1)
    return 0.0 if found.best is None else float(found.best.reached.per_device)


def hidden(service: Service) -> Service:
    """The same where most messages hide behind computing while prompts are read, as where two
    halves of a batch take turns.
    """
    return eqx.tree_at(lambda s: s.efficiency.prefill_overlap, service, np.asarray(HIDDEN))


def in_their_layouts(question: Requests, service: Service) -> Iterator[tuple[str, dict[str, Any]]]:
    """The best plan of each way in layouts that aiconfigurator enumerates: one pipeline stage,
    sizes that are powers of two, no shared caches and no redundant experts.
    """
    served = jax.tree.map(np.asarray, asked(qsopt.load_model(question.model), service))
    layouts = layouts_of(served.model, service)
    every, groups = lists(take(layouts, enumerated(layouts)))
    for option in best_of_each_way(served, every, groups, searched(served, every, groups)):
        yield option.way, reached(option)


def enumerated(layouts: Deployment) -> np.ndarray:
    """Which of ours it enumerates too."""
    devices = np.asarray(layouts.tensor * layouts.data)
    whole = np.log2(devices) % 1.0 == 0.0
    plain = (np.asarray(layouts.dcp) == 1) & (np.asarray(layouts.expert_slots) == 0)
    return whole & plain & (np.asarray(layouts.pipeline) == 1)


def reached(option: Option) -> dict[str, Any]:
    """What a plan of qsopt reaches, and its layouts."""
    return {
        "way": option.way,
        "per_device": float(option.reached.per_device),
        "ttft_s": float(option.reached.ttft),
        "tpot_s": float(option.reached.tpot),
        "decode": sizes(option.plan.decode, option.reached.decode_replicas),
        "prefill": sizes(option.plan.prefill, option.reached.prefill_replicas),
    }


def sizes(layout: Deployment, replicas: object) -> dict[str, float]:
    """Of a pool; the batch is that of an attention rank."""
    parallel = {
        name: float(getattr(layout, name)) for name in ("tensor", "data", "pipeline", "expert")
    }
    ranks = float(layout.batch) / float(layout.data)
    return {**parallel, "batch": ranks, "replicas": float(np.asarray(replicas))}


# ---- how far apart -------------------------------------------------------------------------------


def apart(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """How far the times of its plans, and what they add up to, are from those by qsopt."""
    plans = [
        (row["model"], row["peer"][pools]) for row in answers if row["peer"] for pools in POOLS
    ]
    forwards = {"dense": [], "moe": []}
    for model, plan in plans:
        kind = "moe" if "num_experts" in hub_config(model) else "dense"
        forwards[kind].append(plan["qsopt"]["ttft_s"] / plan["forward_s"])
    two = [row["peer"]["disaggregated"] for row in answers if row["peer"]]
    return {
        "step_ratios": [plan["qsopt"]["step_s"] / plan["step_s"] for _, plan in plans],
        "forward_ratios": forwards,
        "added_up_apart": max(
            abs(plan["qsopt"]["per_device"] / plan["added_up"] - 1.0) for plan in two
        ),
    }
