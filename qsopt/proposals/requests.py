"""Decode alone as a workload of requests, of which only the pool that writes is looked at."""

import jax.numpy as jnp
import numpy as np

from qsopt.spec.workload import Workload

ANSWER = 1024.0
"""Tokens of the answers that stand for decode alone, fewer where the context is short [tokens]."""


def as_requests(workload: Workload) -> Workload:
    """The same workload where it has a prompt and an answer; else requests of the same mean
    context.
    """
    if workload.prompt is not None:
        return workload
    context = np.float64(workload.context)
    answer = jnp.minimum(ANSWER, context)
    return Workload(
        prompt=context - answer / 2.0,
        answer=answer,
        tokens_per_step=workload.tokens_per_step,
        tpot_limit=workload.tpot_limit,
        utilization=workload.utilization,
    )
