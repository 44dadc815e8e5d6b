"""The time of a decode step: of each peer, and of qsopt at the bound, with measured kernels alone,
and with what servers add.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx

import qsopt
from experiments.peers.interpreters import Installed
from experiments.peers.questions import STEPS, Step
from qsopt.catalog.models import load_model

SETS = ("ideal", "kernels", "fitted")


def rows(peers: Sequence[Installed], repeats: int) -> list[dict[str, Any]]:
    """A table for each question; a peer that does not know the model or the device has no row.

    Args:
        peers: that are asked.
        repeats: of timings; nothing is timed here.
    """
    del repeats
    return [table(peers, step) for step in STEPS]


def table(peers: Sequence[Installed], step: Step) -> dict[str, Any]:
    """Seconds of a step at each batch."""
    theirs = {installed.peer.name: installed.ask("steps", **step.as_json()) for installed in peers}
    ours = [[evaluated(step, batch, name) for batch in step.batches] for name in SETS]
    return {
        "model": step.model,
        "cluster": step.cluster,
        "tensor": step.tensor,
        "expert": step.expert,
        "context": step.context,
        "format": step.format,
        "batches": step.batches,
        "experts_hit": [float(each.experts_hit) for each in ours[0]],
        "peers": {name: seconds for name, seconds in theirs.items() if seconds is not None},
        "qsopt": {
            name: [float(each.tpot) for each in line] for name, line in zip(SETS, ours, strict=True)
        },
    }


def evaluated(step: Step, batch: int, efficiency: str) -> qsopt.Metrics:
    """One step of qsopt's."""
    layout = qsopt.Deployment(tensor=step.tensor, data=step.data, expert=step.expert, batch=batch)
    workload = qsopt.Workload(step.context)
    return qsopt.evaluate(served(step), step.cluster, workload, layout, efficiency)


def served(step: Step) -> qsopt.Model:
    """The model with its cache in the format that is asked about."""
    cache = qsopt.number_format(step.kv_dtype)
    return eqx.tree_at(lambda model: model.precision.kv_cache, load_model(step.model), cache)
