"""What a plan reaches on a cluster: rates, latencies, memory, and which limits it keeps, the same
record for every way of serving.
"""

from typing import Any

from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import Scalar, number
from qsopt.physics import placement, smooth
from qsopt.physics.energy import Energy, PowerLaw, energy
from qsopt.physics.evaluate import TOLERANCE
from qsopt.physics.memory import Memory
from qsopt.programs import compiled
from qsopt.record import Record, Result
from qsopt.serving.disaggregated import best_split, reader, reading_pool, transfer, writing_pool
from qsopt.serving.one_pool import BESIDE, alone, one_pool
from qsopt.serving.pace import Pace, end_to_end
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served, held
from qsopt.serving.span import Span
from qsopt.spec.hardware import Cluster
from qsopt.spec.workload import Workload


class RequestMetrics(Result, Record):
    """What a way of serving reaches."""

    memory: Memory
    """Of the fullest device that writes answers."""
    prefill_memory: Memory
    """Of the fullest device that reads prompts; the same where one pool does both."""
    fits_memory: Bool[Array, ""]
    """Whether the fullest devices hold what they must."""
    fits_devices: Bool[Array, ""]
    """Whether the cluster holds one replica of each pool."""
    meets_ttft: Bool[Array, ""]
    """Whether the time to first token is within its limit."""
    meets_tpot: Bool[Array, ""]
    """Whether the time per output token is within its limit."""
    keeps_up: Bool[Array, ""]
    """Whether prompts are read as fast as answers end, at the load allowed."""
    throughput: Scalar = number()
    """Output tokens of the whole cluster [tokens/s]."""
    per_device: Scalar = number()
    """Output tokens per device, idle devices counted [tokens/s]."""
    per_user: Scalar = number()
    """Output tokens of one sequence [tokens/s]."""
    requests: Scalar = number()
    """Requests of the whole cluster [1/s]."""
    ttft: Scalar = number()
    """Time to first token; 0 for decode alone, where prompts come from elsewhere [s]."""
    tpot: Scalar = number()
    """Time per output token [s]."""
    end_to_end: Scalar = number()
    """From a request's arrival to its last token [s]."""
    decode_replicas: Scalar = number()
    """Replicas that write answers."""
    prefill_replicas: Scalar = number()
    """Replicas that read prompts; the same where one pool does both."""
    prompts: Scalar = number()
    """Prompts that one forward finishes."""
    compute_share: Scalar = number()
    """Share of the time that the matrix units of a device in use work."""
    memory_share: Scalar = number()
    """Share of the time that the memory of a device in use works."""
    used_devices: Scalar = number()
    """Devices in use."""

    @property
    def feasible(self) -> Bool[Array, ""]:
        """Whether every limit is kept."""
        return (
            self.fits_memory & self.fits_devices & self.meets_ttft & self.meets_tpot & self.keeps_up
        )


def request_metrics(served: Served, plan: Plan, way: str) -> RequestMetrics:
    """What a plan reaches; differentiable in every number of both.

    Args:
        served: model, service and draft; the workload has a prompt and an answer, except for decode
            alone.
        plan: layouts, batch and chunk.
        way: of `plan.WAYS`.
    """
    if way == "disaggregated":
        reads = reader(served, plan.prefill, plan.tokens, plan.sharing)
        writes = alone(served, plan.decode)
        memories = (
            held(served, plan.decode, writes.occupancy),
            held(served, plan.prefill, reads.occupancy),
        )
        return of_pools(served, plan, (reads.pace, writes.pace), memories)
    work = (
        alone(served, plan.decode)
        if way == "decode"
        else one_pool(served, plan.decode, plan.tokens, BESIDE[way])
    )
    return of_one_pool(served, plan, work.pace, held(served, plan.decode, work.occupancy))


compiled_request_metrics = compiled(request_metrics, static=("way",), by_numpy=True)


def request_energy(cluster: Cluster, law: PowerLaw, reached: RequestMetrics) -> Energy:
    """Power and energy of the devices that serve requests, prompts included."""
    return energy(
        cluster,
        law,
        reached.compute_share,
        reached.memory_share,
        used_devices=reached.used_devices,
        throughput=reached.throughput,
    )


def within(value: Scalar, limit: Scalar) -> Bool[Array, ""]:
    """Whether a value keeps a limit, but for rounding."""
    return value <= limit * (1.0 + TOLERANCE)


def fits(memory: Memory) -> Bool[Array, ""]:
    """Whether a device holds what it must."""
    return within(memory.total, memory.capacity)


def _answer(workload: Workload) -> Scalar:
    """Tokens of an answer; a token at a time for decode alone."""
    return xp.ones(()) if workload.answer is None else workload.answer


def of_one_pool(served: Served, plan: Plan, pace: Pace, memory: Memory) -> RequestMetrics:
    """One pool on all of the cluster."""
    service, layout = served.service, plan.decode
    replicas = placement.replicas(
        service.cluster, layout, service.rules.whole_domains, served.softness
    )
    tpot = pace.unit.seconds
    throughput, ttft = replicas * layout.batch / tpot, pace.ttft(service.workload)
    return RequestMetrics(
        memory=memory,
        prefill_memory=memory,
        fits_memory=fits(memory),
        fits_devices=replicas >= 1.0 - TOLERANCE,
        keeps_up=pace.keeps_up(service.workload),
        requests=throughput / _answer(service.workload),
        prefill_replicas=replicas,
        decode_replicas=replicas,
        prompts=pace.finished,
        used_devices=replicas * layout.replica_devices,
        **_rates(served, throughput, ttft, tpot),
        **_shares(pace.unit),
    )


def of_pools(
    served: Served, plan: Plan, paces: tuple[Pace, Pace], memories: tuple[Memory, Memory]
) -> RequestMetrics:
    """Two pools with the best split.

    Args:
        served: model, service and draft.
        plan: layouts, batch and chunk.
        paces: of a replica that reads, and of one that writes.
        memories: of one that writes, and of one that reads.
    """
    reads = reading_pool(served, plan.prefill, plan.sharing, paces[0])
    writes = writing_pool(served, plan.decode, paces[1])
    workload, devices = served.service.workload, served.service.cluster.devices
    split = best_split(devices, reads, writes, served.softness)
    holders = smooth.minimum(reads.holders, writes.holders, served.softness)
    ttft, tpot = reads.seconds + transfer(served, holders), writes.seconds
    reading, writing = plan.prefill.replica_devices, plan.decode.replica_devices
    return RequestMetrics(
        memory=memories[0],
        prefill_memory=memories[1],
        fits_memory=fits(memories[0]) & fits(memories[1]),
        fits_devices=split.requests > 0.0,
        keeps_up=xp.ones((), bool),
        requests=split.requests,
        prefill_replicas=split.readers,
        decode_replicas=split.writers,
        prompts=paces[0].finished,
        used_devices=split.readers * reading + split.writers * writing,
        **_rates(served, split.requests * _answer(workload), ttft, tpot),
        **_shares(reads.busy.times(reading) + writes.busy.times(writing)),
    )


def _rates(served: Served, throughput: Scalar, ttft: Scalar, tpot: Scalar) -> dict[str, Any]:
    workload = served.service.workload
    return {
        "meets_ttft": within(ttft, workload.ttft_limit),
        "meets_tpot": within(tpot, workload.tpot_limit),
        "throughput": throughput,
        "per_device": throughput / served.service.cluster.devices,
        "per_user": 1.0 / tpot,
        "ttft": ttft,
        "tpot": tpot,
        "end_to_end": end_to_end(ttft, tpot, _answer(workload)),
    }


def _shares(busy: Span) -> dict[str, Scalar]:
    seconds = xp.where(busy.seconds > 0, busy.seconds, 1.0)
    return {
        "compute_share": busy.compute / seconds,
        "memory_share": busy.memory / seconds,
    }
