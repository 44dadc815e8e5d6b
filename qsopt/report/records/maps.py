"""Crossovers and maps as plain records."""

from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from qsopt.maps.bounds import Optima
from qsopt.maps.crossover import Crossovers
from qsopt.maps.pair import MatchedPair
from qsopt.maps.phase_map import PhaseMap
from qsopt.maps.request_map import RequestMap
from qsopt.maps.request_optima import RequestOptima
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.comparison import twin_record
from qsopt.report.records.design import asked_record
from qsopt.report.records.serving import workload_record
from qsopt.serving.ways import SEARCHED
from qsopt.spec.deployment import PARALLEL_SIZES, Deployment
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import MILLISECOND


@in_float64
def crossover_record(
    found: Crossovers, inquiry: Inquiry, over: str, pair: MatchedPair
) -> dict[str, Any]:
    """Everything that `qsopt crossover` says.

    Args:
        found: the flips.
        inquiry: what was asked.
        over: the input that moves.
        pair: both sides.
    """
    asked = asked_record(inquiry)
    return {
        "model": asked["model"],
        "cluster": asked["cluster"],
        "hardware_notes": asked["hardware_notes"],
        "over": over,
        **_asked_workload(pair, over),
        "trained_context": asked["trained_context"],
        "q": None if over == "q" else pair.q,
        "twin": twin_record(None if over == "q" else pair.dense, pair.kind),
        "efficiency": inquiry.efficiency_name,
        **asdict(found),
    }


def _asked_workload(pair: MatchedPair, over: str) -> dict[str, Any]:
    """What is fixed of the workload: the context, or the requests."""
    workload = pair.service.workload
    if not pair.on_requests:
        context = None if over == "context" else float(workload.context)
        return {"question": "decode", "context": context}
    moved = {over, f"{over}_limit_s"}
    fixed = {
        name: None if name in moved else value for name, value in workload_record(workload).items()
    }
    return {"question": "request", **fixed}


@in_float64
def map_record(found: PhaseMap, inquiry: Inquiry, batch: float | None) -> dict[str, Any]:
    """Everything that `qsopt map` says; what an axis moves is not among what is fixed.

    Args:
        found: the map.
        inquiry: what was asked.
        batch: sequences that may decode at once in the whole cluster, if that is limited.
    """
    asked, axes = asked_record(inquiry), (found.x, found.y)
    fixed = {
        "context": asked["context"],
        "batch": batch,
        "tpot_ms": _milliseconds(float(inquiry.service.workload.tpot_limit)),
    }
    moved = {each.name for each in axes}
    return {
        "model": asked["model"],
        "cluster": asked["cluster"],
        "hardware_notes": asked["hardware_notes"],
        "efficiency": inquiry.efficiency_name,
        "law": inquiry.law_name,
        "twin": twin_record(found.match, inquiry.kind),
        **{name: value for name, value in fixed.items() if name.removesuffix("_ms") not in moved},
        "trained_context": asked["trained_context"],
        "utilization": float(inquiry.service.workload.utilization),
        "axes": [
            {"name": each.name, "what": each.kind.what, "values": each.values.tolist()}
            for each in axes
        ],
        "order": "arrays are [x][y]",
        "verdict": found.verdicts,
        "ratio_dense_over_moe": found.ratio.tolist(),
        "s": found.s.tolist(),
        "q": found.q.tolist(),
        "q_low": None if found.q_low is None else found.q_low.tolist(),
        "q_high": None if found.q_high is None else found.q_high.tolist(),
        "sure": None if found.sure is None else found.sure.tolist(),
        "believed": None if found.believed is None else found.believed.tolist(),
        "moe": _side_record(found.moe, found.layouts[0]),
        "dense": _side_record(found.dense, found.layouts[1]),
    }


@in_float64
def request_map_record(found: RequestMap, inquiry: Inquiry) -> dict[str, Any]:
    """Everything that `qsopt map` says about requests; what an axis moves is not among what is
    fixed.

    Args:
        found: the map.
        inquiry: what was asked.
    """
    asked, axes = asked_record(inquiry), (found.x, found.y)
    moved = {name for each in axes for name in (each.name, f"{each.name}_limit_s")}
    fixed = workload_record(inquiry.service.workload)
    return {
        "model": asked["model"],
        "cluster": asked["cluster"],
        "hardware_notes": asked["hardware_notes"],
        "question": "request",
        "efficiency": inquiry.efficiency_name,
        "law": inquiry.law_name,
        "twin": twin_record(found.match, inquiry.kind),
        **{name: value for name, value in fixed.items() if name not in moved},
        "axes": [
            {"name": each.name, "what": each.kind.what, "values": each.values.tolist()}
            for each in axes
        ],
        "order": "arrays are [x][y]",
        "verdict": found.verdicts,
        "ratio_dense_over_moe": found.ratio.tolist(),
        "s": float(found.s[0, 0]),
        "q": float(found.q[0, 0]),
        "moe": _request_side_record(found.moe),
        "dense": _request_side_record(found.dense),
    }


def _request_side_record(side: RequestOptima) -> dict[str, Any]:
    """Throughput, way, batch, chunk and layouts of each point; layouts are listed once, and null
    where nothing keeps the limits.
    """
    layouts, none = side.candidates.layout, side.writes < 0
    writes, reads = (np.where(none, 0, place) for place in (side.writes, side.reads))
    rows = np.stack([np.asarray(size) for size in jax.tree.leaves(layouts)], axis=1)
    both = np.stack([rows[writes], rows[reads]]).reshape(-1, rows.shape[1])
    _, first, place = np.unique(both, axis=0, return_index=True, return_inverse=True)
    candidate = np.concatenate([writes.ravel(), reads.ravel()])[first]
    decode, prefill = place.reshape(2, *side.writes.shape)
    unit = np.asarray(layouts.pipeline * layouts.data)[writes]
    return {
        "throughput_tokens_per_s": side.throughput.tolist(),
        "way": _unless(none, np.array(SEARCHED)[side.way]),
        "batch": (side.units * unit).tolist(),
        "chunk_over_prompt": _unless(none | ~side.chunked, side.chunk_share),
        "decode": _unless(none, decode),
        "prefill": _unless(none, prefill),
        "layouts": [_layout_record(layouts, int(index)) for index in candidate],
    }


def _unless(none: np.ndarray, values: np.ndarray) -> list[list[Any]]:
    """Values of all points, None at some."""
    return [
        [None if missing else value for missing, value in zip(*column, strict=True)]
        for column in zip(none.tolist(), values.tolist(), strict=True)
    ]


def _milliseconds(limit: float) -> float | None:
    """A limit as it was written, without the rounding of its way to seconds and back."""
    return None if limit >= NO_LIMIT else float(f"{limit / MILLISECOND:.12g}")


def _side_record(side: Optima, layouts: Deployment) -> dict[str, Any]:
    """Throughput, batch and layout of each point; layouts are listed once, and null where nothing
    fits.
    """
    used = sorted(set(side.layout.ravel().tolist()) - {-1})
    place = {index: position for position, index in enumerate(used)} | {-1: None}
    return {
        "throughput_tokens_per_s": side.throughput.tolist(),
        "batch": side.batch.tolist(),
        "layout": [[place[index] for index in column] for column in side.layout.tolist()],
        "layouts": [_layout_record(layouts, index) for index in used],
    }


def _layout_record(layouts: Deployment, index: int) -> dict[str, Any]:
    sizes = {
        short: int(np.asarray(getattr(layouts, field))[index])
        for short, field in PARALLEL_SIZES.items()
    }
    return {**sizes, "way": "dispatched" if np.asarray(layouts.dispatched)[index] else "gathered"}
