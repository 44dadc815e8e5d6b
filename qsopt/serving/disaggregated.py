"""Disaggregated: a pool that reads prompts and one that writes answers, each with its own layout,
and the cache that moves between them.

With rates of one replica X_p and X_d [requests/s] and devices n_p and n_d, a and d replicas serve
min(a X_p, d X_d) requests/s. Real numbers of replicas reach devices / (n_p/X_p + n_d/X_d); whole
ones are found exactly, as a X_p rises and d = floor((devices - a n_p)/n_d) falls with a. The cache
of a prompt, over the t x p devices that hold it in the smaller pool, takes its bytes over their
links: between domains, or inside one where the whole cluster is one. It adds to TTFT but for what
is hidden behind reading, and no device may send or receive faster than its link.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import placement, smooth
from qsopt.physics.evaluate import TOLERANCE
from qsopt.physics.memory import sequence_bytes
from qsopt.record import Record
from qsopt.serving.one_pool import reading_only
from qsopt.serving.pace import AtWork, Pace
from qsopt.serving.queue import busiest
from qsopt.serving.replica import Served, carrying, time
from qsopt.serving.span import Span
from qsopt.spec.deployment import Deployment


class Pool(Record):
    """One replica of a pool."""

    busy: Span
    """Its work for one request."""
    rate: Scalar = number()
    """Requests that it serves [1/s]."""
    devices: Scalar = number()
    """Devices that it takes, those included that whole domains leave idle beside it."""
    holders: Scalar = number()
    """Devices that hold the cache of one sequence."""
    seconds: Scalar = number()
    """Reading: wait and time to first token, without the transfer. Writing: time per token [s]."""


def reader(
    served: Served, deployment: Deployment, tokens: Scalar, sharing: Scalar | float = 1.0
) -> AtWork:
    """A replica that reads `tokens` prompt tokens in a forward."""
    reading = carrying(served, deployment, 0.0 * tokens, tokens, sharing)
    return reading_only(served, deployment, reading, time(served, deployment, reading))


def reading_pool(
    served: Served, deployment: Deployment, sharing: Scalar | float, pace: Pace
) -> Pool:
    """The pool of a replica that only reads prompts, at the load allowed."""
    workload = served.service.workload
    rate = busiest(workload.load) / pace.unit.seconds
    return Pool(
        busy=pace.unit,
        rate=smooth.minimum(rate, link_rate(served, deployment), served.softness),
        devices=taken(served, deployment),
        holders=deployment.tensor * deployment.pipeline * sharing,
        seconds=pace.ttft(workload),
    )


def writing_pool(served: Served, deployment: Deployment, pace: Pace) -> Pool:
    """The pool of a replica that only writes answers."""
    request = pace.unit.times(served.service.workload.answer / deployment.batch)
    fastest = link_rate(served, deployment)
    return Pool(
        busy=request,
        rate=smooth.minimum(1.0 / request.seconds, fastest, served.softness),
        devices=taken(served, deployment),
        holders=deployment.tensor * deployment.pipeline,
        seconds=pace.unit.seconds,
    )


def taken(served: Served, deployment: Deployment) -> Scalar:
    """Devices that a replica takes."""
    cluster, whole = served.service.cluster, served.service.rules.whole_domains
    return placement.taken(cluster, deployment, whole, served.softness)


# ---- the cache on its way ------------------------------------------------------------------------


def cache_bytes(served: Served) -> Scalar:
    """What a prompt leaves in the cache, each entry once [byte]."""
    workload = served.service.workload
    prompt, encoder = workload.prompt, workload.encoder_tokens
    return sequence_bytes(served.model, prompt, encoder, Deployment(), served.softness)


def link_speed(served: Served) -> Scalar:
    """Of one device towards the other pool [byte/s]."""
    cluster, efficiency = served.service.cluster, served.service.efficiency
    chip = cluster.accelerator
    beyond = smooth.step(cluster.devices / chip.scale_up_devices - 1.0, served.softness)
    inside = (1.0 - beyond) / (chip.scale_up_bandwidth * efficiency.scale_up.bandwidth)
    return 1.0 / (inside + beyond / (chip.scale_out_bandwidth * efficiency.scale_out.bandwidth))


def link_rate(served: Served, deployment: Deployment) -> Scalar:
    """Requests whose cache the links of a replica can send or receive [1/s]."""
    return deployment.replica_devices * link_speed(served) / cache_bytes(served)


def transfer(served: Served, holders: Scalar) -> Scalar:
    """What the cache's way adds to the time to first token [s]."""
    seen = 1.0 - served.service.efficiency.server.transfer_overlap
    return seen * cache_bytes(served) / (holders * link_speed(served))


# ---- the split -----------------------------------------------------------------------------------


class Split(Record):
    """Replicas of both pools, and what they serve together."""

    readers: Scalar = number()
    """Replicas that read prompts."""
    writers: Scalar = number()
    """Replicas that write answers."""
    requests: Scalar = number()
    """Requests served [1/s]; 0 where the cluster cannot hold one replica of each."""


def best_split(devices: Scalar, reads: Pool, writes: Pool, softness: Softness = EXACT) -> Split:
    """The best numbers of replicas: whole ones, or real ones in the relaxed model."""
    return split_of(devices, reads.rate, reads.devices, writes.rate, writes.devices, softness)


def split_of(
    devices: Scalar,
    read_rate: Scalar,
    read_devices: Scalar,
    write_rate: Scalar,
    write_devices: Scalar,
    softness: Softness = EXACT,
) -> Split:
    """`best_split` of rates and devices of one replica of each pool."""
    per_request = read_devices / read_rate + write_devices / write_rate
    real = devices / per_request
    whole = whole_readers(devices, read_rate, read_devices, write_rate, write_devices)
    soft = smooth.is_relaxed(softness)
    readers = xp.where(soft, real / read_rate, whole)
    left = xp.maximum(devices * (1.0 + TOLERANCE) - readers * read_devices, 0.0)
    writers = smooth.floor(left / write_devices, softness)
    exact = xp.minimum(readers * read_rate, writers * write_rate)
    return Split(readers, writers, xp.where(soft, real, exact))


def whole_readers(
    devices: Scalar,
    read_rate: Scalar,
    read_devices: Scalar,
    write_rate: Scalar,
    write_devices: Scalar,
) -> Scalar:
    """The best whole number of reading replicas, at least one, by bisection on where what they read
    meets what the rest can write.
    """
    devices, read_rate, read_devices, write_rate, write_devices = (
        xp.stop_gradient(x) for x in (devices, read_rate, read_devices, write_rate, write_devices)
    )

    def written(readers: Scalar) -> Scalar:
        left = devices * (1.0 + TOLERANCE) - readers * read_devices
        return xp.floor(xp.maximum(left, 0.0) / write_devices) * write_rate

    def served(readers: Scalar) -> Scalar:
        return xp.minimum(readers * read_rate, written(readers))

    def narrowed(_: object, bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bounds
        middle = xp.floor((low + high) / 2.0)
        behind = middle * read_rate <= written(middle)
        return xp.where(behind, middle, low), xp.where(behind, high, middle)

    most = xp.floor(devices * (1.0 + TOLERANCE) / read_devices) + 1.0
    low, _ = xp.fori_loop(0, _HALVINGS, narrowed, (xp.zeros_like(most), most))
    below, above = xp.maximum(low, 1.0), low + 1.0
    return xp.where(served(below) >= served(above), below, above)


_HALVINGS = 16
"""Enough for the largest cluster that layouts are listed for."""
