"""One design as a plain record."""

import math
from typing import Any

import numpy as np

from qsopt.arrays import Scalar
from qsopt.catalog.models import trained_context
from qsopt.comparison.twin import qs_numbers
from qsopt.deployments.batches import in_numpy
from qsopt.deployments.sizes import traits_of
from qsopt.deployments.stacks import Layout, in_words
from qsopt.fitted.power import FittedPower, power_with
from qsopt.physics.cost import MILLION, cost_per_million
from qsopt.physics.energy import Energy, PowerLaw, busy_shares, energy
from qsopt.physics.evaluate import Metrics
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.memory import Memory
from qsopt.physics.parameters import Parameters, parameter_count
from qsopt.physics.roofline import Spent
from qsopt.physics.step import OPERATORS
from qsopt.precision import in_float64
from qsopt.programs import compiled
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.intervals import design_intervals, expected_error
from qsopt.report.records.quality import belief_record, opinion_records
from qsopt.spec.deployment import PARALLEL_SIZES, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service
from qsopt.units import JOULES_PER_KWH

AS_GIVEN = "as given"
"""How a deployment came about that the user gave."""


def asked_record(inquiry: Inquiry) -> dict[str, Any]:
    """What was asked, and whether the model was made for so long a context."""
    context, longest = float(inquiry.service.workload.context), trained_context(inquiry.model_name)
    return {
        "model": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        "context": context,
        "trained_context": longest,
        "beyond_trained_context": longest is not None and context > longest,
    }


@in_float64
def evaluate_record(
    reached: Metrics, inquiry: Inquiry, deployment: Deployment, chosen: str = AS_GIVEN
) -> dict[str, Any]:
    """Everything that `qsopt evaluate` says.

    Args:
        reached: metrics of the design.
        inquiry: what was asked.
        deployment: of the design.
        chosen: how the deployment came about.
    """
    name = inquiry.efficiency_name
    record = design_record(inquiry.model, inquiry.service, deployment, reached, name)
    return {
        **asked_record(inquiry),
        "question": "decode",
        **record,
        "intervals": design_intervals(inquiry, deployment, record),
        "chosen": chosen,
        "expected_error": expected_error(inquiry, deployment),
        **_quality(inquiry),
    }


def _quality(inquiry: Inquiry) -> dict[str, Any]:
    """q of an MoE by the law asked for; nothing for a dense model."""
    model = inquiry.model
    if moe_layers(model) is None:
        return {}
    held = inquiry.believe()
    numbers = qs_numbers(model, held.q)
    found = []
    if inquiry.all_laws:
        from qsopt.comparison.opinions import opinions  # noqa: PLC0415  (one law needs none of it)

        found = opinions(model, inquiry.training_tokens)
    return {
        "s": float(numbers.s),
        "q": held.q,
        "qs": float(numbers.qs),
        **belief_record(held, inquiry.law_name),
        "laws": opinion_records(found),
    }


def design_record(
    model: Model, service: Service, deployment: Deployment, reached: Metrics, efficiency: str | None
) -> dict[str, Any]:
    """Everything that `evaluate` says about one design."""
    reached = in_numpy(reached)
    return {
        "feasible": bool(reached.feasible),
        "violations": violations(service, deployment, reached),
        "throughput_tokens_per_s": float(reached.throughput),
        "tokens_per_s_per_device": float(reached.per_device),
        "tokens_per_s_per_user": float(reached.per_user),
        "tpot_s": float(reached.tpot),
        "memory_bytes_per_device": memory_record(reached.memory, service.cluster),
        "room_bytes_per_device": float(reached.memory.room),
        "max_batch": int(reached.largest_batch),
        "reuse_tokens_per_weight_read": float(reached.reuse),
        "experts_hit": float(reached.experts_hit) if moe_layers(model) is not None else None,
        **model_record(model),
        "cost_usd_per_million_tokens": cost_of_tokens(service.cluster, reached.throughput),
        **energy_record(service.cluster, deployment, reached, efficiency),
        "breakdown": breakdown_records(reached.breakdown),
        "efficiency": efficiency,
        "deployment": deployment_record(model, service, deployment, reached.replicas),
    }


def model_record(model: Model) -> dict[str, Any]:
    """Parameters, with all tables counted, and cache bytes of a model."""
    count, cache = _counts(model)
    return {
        "parameters": {"total": float(count.total), "active": float(count.active)},
        "kv_bytes_per_token": float(cache),
    }


@compiled
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


def cost_of_tokens(cluster: Cluster, throughput: Scalar) -> float | None:
    """Rental of the cluster per million output tokens, or None where no price is known [US
    dollar].
    """
    price = cluster.accelerator.price_per_hour
    known = math.isfinite(float(price)) and float(throughput) > 0
    return float(cost_per_million(price, cluster.devices, throughput)) if known else None


NO_POWER = (
    "no power limit is known for this accelerator; state power.tdp_W in a copy of its file "
    "(configs/hardware)"
)


def energy_record(
    cluster: Cluster, deployment: Deployment, reached: Metrics, efficiency: str | None
) -> dict[str, Any]:
    """Power and energy of the devices in a decode step (see `power_record`); shares of a server's
    own time where the efficiency set of that name has it.
    """
    found = power_with(efficiency)
    return power_record(_drawn(cluster, found.law, reached, deployment), found)


@compiled
def _drawn(cluster: Cluster, law: PowerLaw, reached: Metrics, deployment: Deployment) -> Energy:
    return energy(
        cluster,
        law,
        *busy_shares(reached.breakdown),
        used_devices=reached.replicas * deployment.replica_devices,
        throughput=reached.throughput,
    )


def power_record(drawn: Energy, found: FittedPower) -> dict[str, Any]:
    """Power and energy of the devices, and how sure they are; None without a power limit."""
    watts, joules = float(drawn.watts_per_device), float(drawn.joules_per_token)
    if not (math.isfinite(watts) and math.isfinite(joules)):
        return {**dict.fromkeys(_ENERGY_KEYS), "power_note": NO_POWER}
    kwh = joules * MILLION / JOULES_PER_KWH
    left = found.errors["other_models"]
    note = (
        f"devices alone, +-{left.median:.0%} median and {left.p90:.0%} P90 on models that the fit "
        f"did not see (vLLM on H100 and B200)"
    )
    return {**dict(zip(_ENERGY_KEYS, (watts, joules, kwh), strict=True)), "power_note": note}


_ENERGY_KEYS = ("watts_per_device", "joules_per_output_token", "kwh_per_million_output_tokens")


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


def deployment_record(
    model: Model, service: Service, deployment: Deployment, replicas: Scalar
) -> dict[str, Any]:
    """Parallel sizes, batch, way and replicas under the names of the command line, and in the words
    of the software.
    """
    batch, layout = int(float(deployment.batch)), layout_of(deployment)
    sizes = {**PARALLEL_SIZES, "batch": "batch"}
    return {
        **{short: int(float(getattr(deployment, name))) for short, name in sizes.items()},
        "way": "dispatched" if float(deployment.dispatched) else "gathered",
        "dcp": layout.dcp,
        "expert_slots": layout.expert_slots,
        "replicas": int(replicas),
        "in_words": in_words(layout, batch, service.rules.stack, traits_of(model)),
    }


def layout_of(deployment: Deployment) -> Layout:
    """Whole sizes of a concrete deployment."""
    tensor, data, pipeline, expert = (
        int(float(getattr(deployment, name))) for name in ("tensor", "data", "pipeline", "expert")
    )
    return Layout(
        tensor,
        data,
        pipeline,
        expert,
        float(deployment.dispatched),
        int(float(deployment.dcp)),
        int(float(deployment.expert_slots)),
    )
