"""An MoE's best throughput in every world in which causes are switched off, without a look at every
layout in each.

A layout is never slower where residency or communication are off: more sequences fit, messages take
no time. So, with reuse and imbalance on or off, the world in which those two are off bounds the
throughput of a layout from above. In the other worlds the layouts with the largest bounds are
tried, and of the rest only those whose bound reaches what these do.
"""

import itertools

import numpy as np
from jaxtyping import Float

from qsopt.comparison.penalties import WORLDS
from qsopt.deployments.batches import CHUNK, length, repeat, same_length, take
from qsopt.deployments.optimum import Searched, best_of_each, searched, things_first
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service


def in_all_worlds(
    side: Model, service: Service, layouts: Deployment
) -> tuple[Searched, Float[np.ndarray, " worlds"]]:
    """Every layout as things are, and the best throughput in each of `WORLDS` [tokens/s].

    Args:
        side: the MoE, concrete as the service.
        service: what it is deployed for.
        layouts: its legal ones, more than are worked on at once.
    """
    settings = list(itertools.product((1.0, 0.0), repeat=2))
    tops = [_worlds(reuse, imbalance, 0.0)[-1] for reuse, imbalance in settings]
    worlds = take(WORLDS, [0, *tops])
    found = searched(repeat(side, 5), service, layouts, worlds, near=things_first(5))
    best = np.zeros(len(WORLDS.reuse))
    best[[0, *tops]] = found.best.throughput
    for setting, bound in zip(settings, np.asarray(found.throughputs)[1:], strict=True):
        others = np.array([world for world in _worlds(*setting) if best[world] == 0.0])
        if len(others):
            best[others] = _best_below(side, service, layouts, others, bound)
    return found, best


def _worlds(reuse: float, imbalance: float, most: float = 1.0) -> list[int]:
    """Places of the worlds of a setting, all causes on first, and with residency and communication
    at most so much.
    """
    own = (WORLDS.reuse == reuse) & (WORLDS.imbalance == imbalance)
    own &= (WORLDS.residency <= most) & (WORLDS.communication <= most)
    return np.flatnonzero(own).tolist()


def _best_below(
    side: Model,
    service: Service,
    layouts: Deployment,
    worlds: np.ndarray,
    bound: Float[np.ndarray, " layouts"],
) -> Float[np.ndarray, " some"]:
    """Best throughput in some worlds, given what no layout exceeds in any of them."""

    def best(chosen: np.ndarray) -> Float[np.ndarray, " some"]:
        (filled,) = same_length(take(layouts, np.sort(chosen)), at_least=CHUNK)
        models = repeat(side, len(worlds))
        return np.asarray(best_of_each(models, service, filled, take(WORLDS, worlds)).throughput)

    order = np.argsort(-bound, kind="stable")
    leaders, rest = order[:CHUNK], order[CHUNK:]
    reached = best(leaders)
    promising = rest[bound[rest] > reached.min()]
    return np.maximum(reached, best(promising)) if length(promising) else reached
