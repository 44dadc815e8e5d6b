"""How fast is qsopt on this machine: how many designs a second, and how soon a first answer?

`python -m experiments.bench` (`make bench`) writes docs/speed.md.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro

import qsopt
from experiments.framework.style import cluster_name
from experiments.pages.template import render
from qsopt import belief
from qsopt.catalog.models import model_facts
from qsopt.deployments.layouts import legal_layouts
from qsopt.files import write_text
from qsopt.maps.axes import Axis, axis
from qsopt.maps.phase_map import phase_map
from qsopt.physics.evaluate import metrics
from qsopt.report.plot import tokens_text
from qsopt.serving.metrics import request_metrics
from qsopt.serving.plan import in_one_pool
from qsopt.serving.replica import Served
from qsopt.spec.deployment import Deployment
from qsopt.spec.rules import EVERY, NO_SLOTS, LayoutRules
from qsopt.spec.service import Service

COMPARE = (
    "compare --model deepseek-v3 --cluster 8xmi300x --context 131072 --efficiency ideal "
    "--weight-dtype bf16"
)
EVALUATE = (
    "evaluate --model deepseek-v3 --cluster 8xh200 --context 4096 --batch 128 --tp 1 --dp "
    "8 --ep 8 --pp 1"
)


BARE = LayoutRules(dcp=1, expert_slots=NO_SLOTS)
"""No context parallelism, and as many places as experts."""

MAPS = (("context", "devices"), ("batch", "context"), ("bandwidth", "capacity"), ("sparsity", "q"))
"""Axes of the maps that are timed."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and where it is written."""

    designs: int = 400_000
    """Designs evaluated at once."""
    repeats: int = 3
    """Measurements of which the median is taken."""
    output: Path = Path("docs/speed.md")


def main(settings: Settings) -> None:
    jax.config.update("jax_enable_x64", True)
    rows = [
        (
            "exact evaluations of DeepSeek-V3 (latent attention, MoE), vmap",
            rate("deepseek-v3", settings),
            "designs/s",
        ),
        (
            "exact evaluations of Mixtral-8x7B (grouped attention, MoE), vmap",
            rate("mixtral-8x7b", settings),
            "designs/s",
        ),
        ("exact evaluations of requests to DeepSeek-V3, vmap", request_rate(settings), "mixes/s"),
        *warm_rows(settings),
        *map_rows(settings),
        ("`qsopt evaluate`, new process, empty cache", fresh(EVALUATE, settings, keep=False), "s"),
        ("`qsopt evaluate`, new process, filled cache", fresh(EVALUATE, settings, keep=True), "s"),
        ("`qsopt compare`, new process, empty cache", fresh(COMPARE, settings, keep=False), "s"),
        ("`qsopt compare`, new process, filled cache", fresh(COMPARE, settings, keep=True), "s"),
    ]
    page = render(
        "speed.md",
        cores=os.cpu_count(),
        machine=platform.machine(),
        jax=jax.__version__,
        repeats=settings.repeats,
        rows=rows,
    )
    write_text(settings.output, page)
    print(page)


def median_seconds(repeats: int, action: Callable[[], object]) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def rate(name: str, settings: Settings) -> float:
    """Designs a second in one compiled and mapped call: throughput, TPOT, memory and feasibility of
    each.
    """
    model, cluster = qsopt.load_model(name), qsopt.load_cluster("64xh100")
    service = Service(cluster, qsopt.Workload(8192), qsopt.load_efficiency("fitted"))
    layouts = jax.tree.map(
        lambda leaf: jnp.resize(jnp.asarray(leaf), (settings.designs,)),
        legal_layouts(model, cluster),
    )

    @jax.jit
    def scores(designs: Deployment) -> tuple[jax.Array, ...]:
        def one(design: Deployment) -> tuple[jax.Array, ...]:
            result = metrics(model, service, design)
            return result.throughput, result.tpot, result.memory.total, result.feasible

        return jax.vmap(one)(designs)

    jax.block_until_ready(scores(layouts))
    return settings.designs / median_seconds(
        settings.repeats, lambda: jax.block_until_ready(scores(layouts))
    )


def request_rate(settings: Settings) -> float:
    """Mixes of prompts and answers a second of one plan in mixed steps, some at a time in as many
    threads as cores: throughput, both latencies, memory and feasibility of each.
    """
    service = Service(
        qsopt.load_cluster("64xh100"),
        qsopt.Workload(prompt=8192.0, answer=1024.0),
        qsopt.load_efficiency("fitted"),
    )
    served = Served(qsopt.load_model("deepseek-v3"), service)
    plan = in_one_pool(Deployment(tensor=1, data=32, expert=32, batch=1024), 32 * 4096.0)
    count, size = settings.designs, 4096
    prompts, answers = np.geomspace(256.0, 1e5, count), np.geomspace(16.0, 8e3, count)[::-1]

    @jax.jit
    def reached(prompts: jax.Array, answers: jax.Array) -> tuple[jax.Array, ...]:
        def one(prompt: jax.Array, answer: jax.Array) -> tuple[jax.Array, ...]:
            moved = eqx.tree_at(
                lambda s: (s.service.workload.prompt, s.service.workload.answer),
                served,
                (prompt, answer),
            )
            result = request_metrics(moved, plan, "mixed")
            limits = result.memory.total, result.feasible
            return result.throughput, result.ttft, result.tpot, *limits

        return jax.vmap(one)(prompts, answers)

    def part(start: int) -> None:
        here = slice(start, start + size)
        jax.block_until_ready(reached(prompts[here], answers[here]))

    starts = range(0, count - count % size, size)
    part(0)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        seconds = median_seconds(settings.repeats, lambda: list(threads.map(part, starts)))
    return len(starts) * size / seconds


COMPARED = (("8xmi300x", 131072.0, None), ("16xh200", 8192.0, 0.05), ("72xgb200", 8192.0, 0.03))
"""Clusters, contexts and longest times per token of the comparisons that are timed."""


def warm_rows(settings: Settings) -> Iterator[tuple[str, float, str]]:
    """Seconds of a comparison in a process that has made one before, with all freedoms of layouts
    and without, by turns.
    """
    model = qsopt.load_model("deepseek-v3")
    efficiency = qsopt.load_efficiency("fitted")
    for phrase, context, limit in COMPARED:
        limits = {} if limit is None else {"tpot_limit": limit}
        cluster, workload = qsopt.load_cluster(phrase), qsopt.Workload(context, **limits)

        def action(rules: LayoutRules, cluster=cluster, workload=workload) -> object:
            service = Service(cluster, workload, efficiency, rules)
            return qsopt.compare(model, service=service).verdict

        what = f"a comparison on {cluster_name(phrase)}, {tokens_text(context)}, warm, one process"
        yield from ruled_rows(what, action, settings)


def ruled_rows(
    what: str, action: Callable[[LayoutRules], object], settings: Settings
) -> Iterator[tuple[str, float, str]]:
    """Seconds with all freedoms of layouts and with none, and how many times longer the first
    take.
    """
    for rules in (EVERY, BARE):
        action(rules)
    free, bare = by_turns(settings.repeats, lambda: action(EVERY), lambda: action(BARE))
    yield what, free, "s"
    yield "the same with `--dcp 1 --expert-slots none`", bare, "s"
    yield "first over second", free / bare, "times"


def by_turns(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of several actions, each after the other, so that a machine that is busy with
    other things slows all of them.
    """
    times = [[median_seconds(1, action) for action in actions] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def map_rows(settings: Settings) -> Iterator[tuple[str, float, str]]:
    """Seconds of maps in a process that has made one before: both sides, and both ends of the
    interval of q, at every point.
    """
    model = qsopt.load_model("deepseek-v3")
    service = Service(
        qsopt.load_cluster("16xh200"), qsopt.Workload(8192), qsopt.load_efficiency("fitted")
    )
    tokens = model_facts("deepseek-v3").training_tokens
    given = {
        "devices": Axis("devices", np.arange(1.0, 101.0)),
        "batch": Axis("batch", np.unique(np.round(np.geomspace(1.0, 2.0**20, 110)))[:100]),
    }

    def along(name: str) -> Axis:
        return given.get(name) or axis(name, model, service, points=100)

    for names in MAPS:
        x, y = map(along, names)

        def action(rules: LayoutRules, x: Axis = x, y: Axis = y) -> object:
            ruled = Service(service.cluster, service.workload, service.efficiency, rules)
            return phase_map(
                model, ruled, x, y, lambda side: belief(side, "geometric", tokens, raw=True)
            )

        what = (
            f"map of {names[0]} and {names[1]}, {len(x.values)} x {len(y.values)} points, "
            f"DeepSeek-V3 on 16 H200, warm"
        )
        yield from ruled_rows(what, action, settings)


def fresh(arguments: str, settings: Settings, keep: bool) -> float:
    """Seconds of one command line in a new process; `keep` lets it find what an earlier one
    compiled.
    """

    def run(cache: str) -> None:
        command = [
            sys.executable,
            "-c",
            "import sys; from qsopt.cli import main; sys.exit(main())",
            *arguments.split(),
            "--json",
        ]
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "XDG_CACHE_HOME": cache}
        )

    if not keep:

        def emptied() -> None:
            with tempfile.TemporaryDirectory() as cache:
                run(cache)

        return median_seconds(settings.repeats, emptied)
    with tempfile.TemporaryDirectory() as cache:
        run(cache)
        return median_seconds(settings.repeats, lambda: run(cache))


if __name__ == "__main__":
    main(tyro.cli(Settings))
