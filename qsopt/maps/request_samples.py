"""Both sides of a comparison on whole requests at many values of one input, each in its own best
way of serving.
"""

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.comparison.contenders import RequestDuel, request_duel, rival
from qsopt.comparison.dense import dense_match
from qsopt.maps.pair import MatchedPair, Measure, Samples
from qsopt.maps.points import NUMBERS
from qsopt.spec.service import Service


def request_measure(pair: MatchedPair, over: str) -> Measure:
    """Both optima on requests at values of an input.

    Args:
        pair: both sides, with a workload of requests.
        over: the input.
    """
    duel = request_duel(pair.model, pair.dense, pair.service, pair.kind)
    at = _at_q if over == "q" else _at_number

    def samples(values: list[float]) -> Samples:
        return {value: at(duel, pair.service, over, value) for value in values}

    return samples


def _at_number(duel: RequestDuel, service: Service, over: str, value: float) -> tuple[float, float]:
    number = NUMBERS[over]
    moved = eqx.tree_at(number, service, np.asarray(value))
    return duel.moe.throughput(moved), duel.dense.throughput(moved)


def _at_q(duel: RequestDuel, service: Service, _over: str, value: float) -> tuple[float, float]:
    match = dense_match(duel.moe.model, scalar(value), duel.kind)
    other = rival(duel, match, service, duel.kind)
    return duel.moe.throughput(service), other.dense.throughput(service)
