"""How many replicas a cluster holds when groups of ranks are packed into whole scale-up domains.

Ranks that exchange messages in every layer must not straddle a domain where they fit into one. So a
domain of N devices holds floor(N/n) stages of n <= N devices (three ranks in a domain of eight: two
stages, two devices idle); of larger stages it holds floor(N/t) tensor groups, which make up stages;
and where even a tensor group is larger, a stage takes ceil(n/N) domains for itself.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness
from qsopt.physics import smooth
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster

TOLERANCE = 1e-6
"""Relative shortfall of a whole number that counts as rounding, in float32 too."""


def replicas(
    cluster: Cluster,
    deployment: Deployment,
    whole_domains: bool = True,
    softness: Softness = EXACT,
) -> Scalar:
    """Replicas in the cluster; the relaxed model counts devices alone.

    Args:
        cluster: accelerators and their number.
        deployment: parallel sizes.
        whole_domains: whether groups are packed into whole domains, or devices alone count.
        softness: 0 for the exact model, above 0 for the relaxed one.
    """
    by_devices = cluster.devices / deployment.replica_devices
    exact = packed(cluster, deployment) if whole_domains else _whole(by_devices)
    return smooth.rounded(by_devices, exact, softness)


def packed(cluster: Cluster, deployment: Deployment) -> Scalar:
    """Whole replicas that fit whole domains."""
    devices = cluster.devices
    domain = xp.minimum(cluster.accelerator.scale_up_devices, devices)
    stage, tensor = deployment.stage_devices, deployment.tensor
    stage_fits, tensor_fits = stage <= domain, tensor <= domain
    unit = xp.where(stage_fits, stage, xp.where(tensor_fits, tensor, domain))
    full = _whole(devices / domain)
    units = full * _whole(domain / unit) + _whole((devices - full * domain) / unit)
    needed = xp.where(
        stage_fits,
        1.0,
        xp.where(tensor_fits, deployment.data, xp.ceil(stage / domain * (1.0 - TOLERANCE))),
    )
    stages = _whole(units / needed)
    return _whole(stages / deployment.pipeline)


def taken(
    cluster: Cluster,
    deployment: Deployment,
    whole_domains: bool = True,
    softness: Softness = EXACT,
) -> Scalar:
    """Devices that a replica takes beside others of its kind, with those that whole domains leave
    idle: N/floor(N/n) a stage; the relaxed model counts its own alone.
    """
    domain = xp.minimum(cluster.accelerator.scale_up_devices, cluster.devices)
    stage, tensor = deployment.stage_devices, deployment.tensor
    by_tensor = deployment.data * domain / xp.maximum(_whole(domain / tensor), 1.0)
    by_domain = domain * xp.ceil(stage / domain * (1.0 - TOLERANCE))
    beyond = xp.where(tensor <= domain, by_tensor, by_domain)
    inside = domain / xp.maximum(_whole(domain / stage), 1.0)
    exact = xp.where(stage <= domain, inside, beyond) * deployment.pipeline
    counted = exact if whole_domains else deployment.replica_devices
    return smooth.rounded(deployment.replica_devices, counted, softness)


def _whole(ratio: Scalar) -> Scalar:
    return xp.floor(ratio * (1.0 + TOLERANCE))
