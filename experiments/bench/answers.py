"""Answers of a process that has given one like it before: comparisons, limits, maps."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import qsopt
from experiments.bench.clock import Row, by_turns
from experiments.framework.style import cluster_name
from qsopt import belief
from qsopt.catalog.models import model_facts
from qsopt.comparison.dense import RELEASED
from qsopt.maps.axes import Axis, AxisName, axis
from qsopt.maps.phase_map import phase_map
from qsopt.physics.parameters import compiled_parameter_count
from qsopt.report.plot import tokens_text
from qsopt.search.dense import DenseSide
from qsopt.spec.rules import EVERY, NO_SLOTS, LayoutRules
from qsopt.spec.service import Service

BARE = LayoutRules(dcp=1, expert_slots=NO_SLOTS)
"""No context parallelism, and as many places as experts."""
COMPARED = (("8xmi300x", 131072.0, None), ("16xh200", 8192.0, 0.05), ("72xgb200", 8192.0, 0.03))
"""Clusters, contexts and longest times per token of the comparisons that are timed."""
LARGE = (("64x8xh200", "512", None), ("2048x8xh200", "16,384", "10 s"))
"""Large clusters, their devices in words, and the aims of comparisons on them."""
MAPS: tuple[tuple[AxisName, AxisName], ...] = (
    ("context", "devices"),
    ("batch", "context"),
    ("bandwidth", "capacity"),
    ("sparsity", "q"),
)
"""Axes of the maps that are timed."""


def rows(repeats: int) -> Iterator[Row]:
    """Of comparisons, limits on the time per token, and maps."""
    yield from comparisons(repeats)
    yield from limits(repeats)
    yield from large_clusters()
    yield from maps(repeats)
    yield from request_maps()


def compared(cluster: str, workload: qsopt.Workload, rules: LayoutRules = EVERY) -> object:
    """A comparison of DeepSeek-V3 with its match."""
    service = Service(qsopt.load_cluster(cluster), workload, qsopt.load_efficiency("fitted"), rules)
    return qsopt.compare("deepseek-v3", service=service).verdict


def comparisons(repeats: int) -> Iterator[Row]:
    """With all freedoms of layouts and without, by turns."""
    for cluster, context, limit in COMPARED:
        limits = {} if limit is None else {"tpot_limit": limit}
        workload = qsopt.Workload(context, **limits)
        what = f"a comparison on {cluster_name(cluster)}, {tokens_text(context)}, warm"
        yield from ruled_rows(what, partial(compared, cluster, workload), repeats)


def ruled_rows(what: str, action: Callable[[LayoutRules], object], repeats: int) -> Iterator[Row]:
    """Seconds with all freedoms of layouts and with none, and how many times longer the first
    take.
    """
    for rules in (EVERY, BARE):
        action(rules)
    free, bare = by_turns(repeats, lambda: action(EVERY), lambda: action(BARE))
    yield Row(what, free, "s")
    yield Row("over the same with `--dcp 1 --expert-slots none`", free / bare, "times", "2 times")


def limits(repeats: int) -> Iterator[Row]:
    """A limit on the time per token beside none, of a comparison and of a map."""
    free, limited = qsopt.Workload(8192), qsopt.Workload(8192, tpot_limit=0.05)
    for workload in (free, limited):
        compared("16xh200", workload)
    without, with_limit = by_turns(
        repeats, lambda: compared("16xh200", free), lambda: compared("16xh200", limited)
    )
    what = "a comparison on 16 H200, 8k, with 50 ms a token over one without a limit"
    yield Row(what, with_limit / without, "times", "1.5 times")
    axes = [along("bandwidth"), along("capacity")]
    for workload in (free, limited):
        mapped(axes, EVERY, workload)
    without, with_limit = by_turns(
        repeats, lambda: mapped(axes, EVERY, free), lambda: mapped(axes, EVERY, limited)
    )
    what = "a map of bandwidth and capacity with 50 ms a token over one without a limit"
    yield Row(what, with_limit / without, "times", "1.5 times")


def large_clusters() -> Iterator[Row]:
    """Comparisons on clusters of thousands of devices, once each, and the dense side of a search
    for advantages: 64 sizes of match, each at its exact optimum.
    """
    small = "64x8xh200"
    for limit in (None, 0.05):
        limits = {} if limit is None else {"tpot_limit": limit}
        workload = qsopt.Workload(8192.0, **limits)
        within = "" if limit is None else ", with 50 ms a token"
        compared(small, workload)
        for cluster, devices, aim in LARGE if limit is None else LARGE[:1]:
            seconds = by_turns(1, partial(compared, cluster, workload))[0]
            yield Row(f"a comparison on {devices} H200, 8k{within}, warm", seconds, "s", aim)
    model, service = (
        qsopt.load_model("mixtral-8x7b"),
        Service(qsopt.load_cluster(small), qsopt.Workload(8192.0), qsopt.load_efficiency("fitted")),
    )
    own = float(compiled_parameter_count(model).active)

    def curve() -> object:
        return DenseSide(model, service, RELEASED).curve(own, 8.0 * own)

    curve()
    what = "64 sizes of the dense match of Mixtral-8x7B on 512 H200, each at its optimum, warm"
    yield Row(what, by_turns(1, curve)[0], "s", "5 s")


def maps(repeats: int) -> Iterator[Row]:
    """Of decode: both sides, and both ends of the interval of q, at every point."""
    for names in MAPS:
        axes = [along(name) for name in names]
        sizes = " x ".join(str(len(each.values)) for each in axes)
        what = f"map of {names[0]} and {names[1]}, {sizes} points, DeepSeek-V3 on 16 H200, warm"
        yield from ruled_rows(what, partial(mapped, axes), repeats)


def along(name: AxisName) -> Axis:
    """An axis of a hundred values."""
    given = {
        "devices": np.arange(1.0, 101.0),
        "batch": np.unique(np.round(np.geomspace(1.0, 2.0**20, 110)))[:100],
    }
    if name in given:
        return Axis(name, given[name])
    service = Service(
        qsopt.load_cluster("16xh200"), qsopt.Workload(8192), qsopt.load_efficiency("fitted")
    )
    return axis(name, qsopt.load_model("deepseek-v3"), service, points=100)


def mapped(axes: list[Axis], rules: LayoutRules, workload: qsopt.Workload | None = None) -> object:
    """A map of decode."""
    workload = qsopt.Workload(8192) if workload is None else workload
    service = Service(
        qsopt.load_cluster("16xh200"), workload, qsopt.load_efficiency("fitted"), rules
    )
    tokens = model_facts("deepseek-v3").training_tokens
    x, y = axes
    return phase_map(
        qsopt.load_model("deepseek-v3"),
        service,
        x,
        y,
        lambda side: belief(side, "geometric", tokens, raw=True),
    )


def request_maps() -> Iterator[Row]:
    """Of requests: both sides in their best way at every point."""
    model, workload = "qwen3-30b-a3b", qsopt.Workload(prompt=1024, answer=1024)
    service = Service(qsopt.load_cluster("1xh100"), workload, qsopt.load_efficiency("fitted"))
    x = qsopt.axis("prompt", model, service, low=256, high=16384, points=100)
    y = qsopt.axis("answer", model, service, low=64, high=16384, points=100)

    def drawn() -> object:
        return qsopt.phase_map(model, service=service, x=x, y=y, dense="qwen3-14b")

    drawn()
    what = "map of prompt and answer, 100 x 100 points, Qwen3-30B-A3B and Qwen3-14B on one H100"
    yield Row(f"{what}, warm", by_turns(1, drawn)[0], "s", "30 s")
