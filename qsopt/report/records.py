"""Results as plain records of numbers and texts, ready for JSON: the one place that names the keys
of the output.
"""

import json
import math
from typing import Any

import jax
import numpy as np

from qsopt.arrays import Scalar
from qsopt.comparison.compare import Comparison, Side
from qsopt.comparison.opinions import Opinion
from qsopt.fitted.expected import Expectation
from qsopt.physics.accounting import Parameters, kv_bytes_per_token, parameter_count
from qsopt.physics.evaluate import Metrics
from qsopt.physics.memory import Memory
from qsopt.physics.roofline import Spent
from qsopt.physics.step import OPERATORS
from qsopt.quality.belief import LEVEL, Belief
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service
from qsopt.units import SECONDS_PER_HOUR

_MILLION = 1e6


def to_json(record: object) -> str:
    """JSON text of a record; a number that is not finite is null."""
    return json.dumps(_finite(record), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def design_record(
    model: Model, service: Service, deployment: Deployment, reached: Metrics, efficiency: str
) -> dict[str, Any]:
    """Everything that `evaluate` says about one design."""
    return {
        "feasible": bool(reached.feasible),
        "violations": violations(service, deployment, reached),
        "throughput_tokens_per_s": float(reached.throughput),
        "tokens_per_s_per_device": float(reached.per_device),
        "tokens_per_s_per_user": float(reached.per_user),
        "tpot_s": float(reached.tpot),
        "memory_bytes_per_device": memory_record(reached.memory, service.cluster),
        "max_batch": int(reached.largest_batch),
        "reuse_tokens_per_weight_read": float(reached.reuse),
        "experts_hit": float(reached.experts_hit) if moe_layers(model) is not None else None,
        **model_record(model),
        "cost_usd_per_million_tokens": cost_per_million(service.cluster, reached),
        "breakdown": breakdown_records(reached.breakdown),
        "efficiency": efficiency,
        "deployment": deployment_record(deployment, reached),
    }


def model_record(model: Model) -> dict[str, Any]:
    """Parameters, with all tables counted, and cache bytes of a model."""
    count, cache = _counts(model)
    return {
        "parameters": {"total": float(count.total), "active": float(count.active)},
        "kv_bytes_per_token": float(cache),
    }


@jax.jit
def _counts(model: Model) -> tuple[Parameters, Scalar]:
    return parameter_count(model), kv_bytes_per_token(model)


def violations(service: Service, deployment: Deployment, reached: Metrics) -> list[dict[str, Any]]:
    """Limits that a design breaks, with its value and the limit."""
    limits = (
        (
            "memory",
            reached.fits_memory,
            reached.memory.total,
            reached.memory.capacity,
            "byte per device",
        ),
        ("tpot", reached.meets_tpot, reached.tpot, service.workload.tpot_limit, "s"),
        (
            "devices",
            reached.fits_devices,
            deployment.replica_devices,
            service.cluster.devices,
            "device",
        ),
    )
    return [
        {"constraint": name, "value": float(value), "limit": float(limit), "unit": unit}
        for name, kept, value, limit, unit in limits
        if not bool(kept)
    ]


def memory_record(held: Memory, cluster: Cluster) -> dict[str, float]:
    """Memory of the fullest device [byte]: `capacity` is the device's, `usable` what utilization
    leaves of it.
    """
    parts = {
        name: float(getattr(held, name))
        for name in ("weights", "kv_cache", "activations", "reserve", "total")
    }
    return {
        **parts,
        "capacity": float(cluster.accelerator.memory_bytes),
        "usable": float(held.capacity),
    }


def error_record(
    expected: Expectation | None, reached: Metrics, deployment: Deployment
) -> dict[str, Any] | None:
    """Median relative error expected of the step time, and what it rests on; None where nothing is
    known.
    """
    if expected is None:
        return None
    step = expected.of_step(reached.breakdown, float(deployment.dispatched))
    return {"step_time": step, "basis": expected.basis, "by_kind": expected.errors}


def cost_per_million(cluster: Cluster, reached: Metrics) -> float | None:
    """Rental of the cluster per million output tokens, or None where no price is known [US
    dollar].
    """
    price = float(cluster.accelerator.price_per_hour)
    rate = float(reached.per_device)
    return price / SECONDS_PER_HOUR / rate * _MILLION if math.isfinite(price) and rate > 0 else None


def breakdown_records(spent: Spent) -> list[dict[str, Any]]:
    """Operators of a decode step that take time, in the order in which they run."""
    columns = {
        name: np.asarray(getattr(spent, name), dtype=float) for name in spent.__dataclass_fields__
    }
    whole = columns["seconds"].sum()
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [
        {
            "operator": operator,
            "seconds": float(row["seconds"]),
            "share": float(row["seconds"] / whole),
            "flops": float(row["flops"]),
            "bytes": float(row["bytes"]),
            "bound": bound(row),
        }
        for operator, row in zip(OPERATORS, rows, strict=True)
        if row["seconds"] > 0
    ]


def bound(row: dict[str, float]) -> str:
    """What an operator waits for most: compute, memory, links or latency."""
    return max(("compute", "memory", "link", "latency"), key=lambda name: row[name])


def deployment_record(deployment: Deployment, reached: Metrics) -> dict[str, Any]:
    """Parallel sizes, batch and way under the names of the command line."""
    sizes = {
        "tp": "tensor",
        "dp": "data",
        "pp": "pipeline",
        "ep": "expert",
        "etp": "expert_tensor",
        "batch": "batch",
    }
    return {
        **{short: int(float(getattr(deployment, name))) for short, name in sizes.items()},
        "way": "dispatched" if float(deployment.dispatched) else "gathered",
        "replicas": int(reached.replicas),
    }


def comparison_record(result: Comparison, service: Service, efficiency: str) -> dict[str, Any]:
    """Everything that a comparison at one q says."""
    sides = {"moe": result.moe, "dense": result.dense}
    return {
        **{name: _side_record(side, service, efficiency) for name, side in sides.items()},
        "reason": "; ".join(
            f"{name}: {_reason(side)}" for name, side in sides.items() if not bool(side.feasible)
        )
        or None,
        "s": float(result.numbers.s),
        "q": float(result.numbers.q),
        "qs": float(result.numbers.qs),
        "ratio_dense_over_moe": float(result.ratio),
        "verdict": result.verdict,
        "break_even_q": float(result.break_even_q),
        "penalties": {
            name: float(getattr(result.penalties, name))
            for name in result.penalties.__dataclass_fields__
        },
        "dense_twin": {
            "ffn_width": float(result.dense.model.decoder.ffn[0].kind.width),
            **model_record(result.dense.model),
        },
        "efficiency": efficiency,
    }


def belief_record(held: Belief, law: str) -> dict[str, Any]:
    """Which law gave q, and how sure it is; nulls where q was given."""
    return {
        "law": law,
        "q_interval": None if held.interval is None else list(held.interval),
        "q_level": None if held.interval is None else LEVEL,
        "probability_qs_below_one": held.below_one,
    }


def opinion_records(opinions: list[Opinion]) -> list[dict[str, Any]]:
    """One record a law."""
    return [
        {
            "law": each.law,
            "q": each.q,
            "qs": each.qs,
            "ratio_dense_over_moe": each.ratio,
            "verdict": each.verdict,
            "in_range": each.in_range,
            "in_band": each.in_band,
            "warnings": list(each.warnings),
        }
        for each in opinions
    ]


def _side_record(side: Side, service: Service, efficiency: str) -> dict[str, Any] | None:
    if not bool(side.feasible):
        return None
    return design_record(side.model, service, side.deployment, side.metrics, efficiency)


def _reason(side: Side) -> str:
    """Why no deployment of a side keeps the limits, told by the one that comes closest."""
    held = side.metrics.memory
    if not bool(side.metrics.fits_memory):
        return (
            f"no deployment fits: the closest needs {float(held.total) / 1e9:.1f} GB of each "
            f"device for one batch unit, "
            f"and {float(held.capacity) / 1e9:.1f} GB may be used"
        )
    return (
        f"no deployment meets the TPOT limit: the fastest takes "
        f"{float(side.metrics.tpot) * 1e3:.3g} ms"
    )
