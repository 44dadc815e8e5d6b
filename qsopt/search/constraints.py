"""What a design must keep, as log ratios: log(value / limit) <= 0, so that bytes and seconds are
alike to an optimiser.

Soft in the search, where an augmented Lagrangian holds them with a multiplier each, and hard in the
answer. Deployment constraints are kept by the choice of the deployment, architecture constraints by
that of the model.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, Softness, number
from qsopt.deployments.legality import SIZE_LIMITS, size_ratios
from qsopt.physics.evaluate import Timing
from qsopt.physics.memory import memory
from qsopt.physics.parameters import parameter_count
from qsopt.search.architecture import MatchedSizes
from qsopt.search.budgets import TRAINING
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service

DEPLOYMENT_LIMITS = ("memory", "tpot", *SIZE_LIMITS)
"""Constraints on how a model is deployed, in the order of `deployment_ratios`."""

ARCHITECTURE_LIMITS = (
    "quality",
    "routing",
    "total_parameters",
    "active_parameters",
    "twin",
    TRAINING,
)
"""Constraints on the model, in the order of `architecture_ratios`."""


class Ceilings(eqx.Module):
    """Limits on the model."""

    quality: Scalar = number()
    """Least size of the dense model of the same quality; tiny if it does not matter [parameters].
    """
    total: Scalar = number()
    """[parameters]"""
    active: Scalar = number()
    """[parameters]"""
    twin: Scalar = number()
    """Size of the largest dense match that some deployment holds, where one is needed
    [parameters].
    """
    training: Scalar = number()
    """[FLOP]"""


def deployment_ratios(
    model: Model, service: Service, deployment: Deployment, time: Timing, softness: Softness
) -> Float[Array, " limits"]:
    """Log of each value over its limit."""
    needed = memory(model, service, deployment, softness=softness)
    ratios = (
        needed.total / needed.capacity,
        time.tpot / service.workload.tpot_limit,
        *size_ratios(model, service.cluster, deployment),
    )
    return jnp.log(jnp.stack(ratios))


def architecture_ratios(
    model: Model, sizes: MatchedSizes, ceilings: Ceilings
) -> Float[Array, " limits"]:
    """Log of each value over its limit, for a model and its sizes."""
    moe, count = moe_layers(model), parameter_count(model)
    assert moe is not None
    ratios = (
        ceilings.quality / sizes.dense,
        moe.top_k / moe.experts,
        count.total / ceilings.total,
        count.active / ceilings.active,
        sizes.match / ceilings.twin,
        sizes.training / ceilings.training,
    )
    return jnp.log(jnp.stack(ratios))
