"""Random requests to an MoE, each against a dense match of a random size, with the true winner by
the exact search on both sides, and what closed forms need to know.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from experiments.findings.sides import asked
from experiments.framework.pieces import Row
from qsopt.catalog.models import trained_context
from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import request_duel, rival
from qsopt.comparison.dense import RELEASED, SAME_BODY, bracket, dense_match
from qsopt.comparison.merged import merged, merged_rooflines
from qsopt.comparison.twin import aligned, qs_numbers
from qsopt.deployments.capped import NO_CAP, ServedModel
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.memory import memory
from qsopt.physics.parameters import parameter_count
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

KINDS = {"same-body": SAME_BODY, "released": RELEASED}


def drawn(
    model: str,
    cluster: str,
    draws: int,
    prompts: list[float],
    answers: list[float],
    sizes: list[float],
    cached: list[float],
    seed: int,
) -> list[Row]:
    """Random requests to a model on a cluster, each against a dense match of a random size."""
    random = np.random.default_rng([seed, *map(ord, model + cluster)])
    base = {"model": model, "cluster": cluster, "prompt": 1024.0, "answer": 1024.0}
    case = asked(base)
    most = trained_context(model) or np.inf
    low, high = (float(end) for end in bracket(case.model, case.service, RELEASED))
    start = request_duel(case.model, case.dense, case.service, RELEASED)
    rows = []
    for place in range(draws):
        prompt, answer, q = (_between(random, ends) for ends in (prompts, answers, sizes))
        answer = min(answer, 0.5 * most)
        prompt = min(prompt, most - answer)
        share, q = float(random.choice(cached)), float(np.clip(q, 1.1 * low, 0.9 * high))
        name = list(KINDS)[place % len(KINDS)]
        service = _moved(case.service, prompt, answer, share)
        match = dense_match(case.model, jnp.asarray(q), KINDS[name])
        duel = rival(start, match, service, KINDS[name])
        reached = duel.moe.throughput(service), duel.dense.throughput(service)
        known = {"model": model, "cluster": cluster, "match": name, "prompt": prompt}
        rows.append(
            {
                **known,
                "answer": answer,
                "cached": share,
                "q": q,
                "s": float(qs_numbers(case.model, jnp.asarray(1.0)).s),
                "ratio": reached[1] / reached[0] if all(reached) else None,
                "verdict": verdict(*reached),
                **_merged(case.model, match, service),
            }
        )
    return rows


def _between(random: np.random.Generator, ends: list[float]) -> float:
    return float(np.exp(random.uniform(*np.log(ends))))


def _moved(service: Service, prompt: float, answer: float, cached: float) -> Service:
    return eqx.tree_at(
        lambda s: (s.workload.prompt, s.workload.answer, s.workload.cached),
        service,
        tuple(np.asarray(value) for value in (prompt, answer, cached)),
    )


def _merged(model: Model, match: Model, service: Service) -> Row:
    """The merged roofline of both sides: for decode alone, and with the arithmetic of prompts at
    the peak of the format.
    """
    alone = Service(
        service.cluster, service.workload.decode_alone, service.efficiency, service.rules
    )
    both = [aligned(model, model), aligned(match, model)]
    moe, dense = (merged_rooflines([ServedModel(side, alone, NO_CAP)])[0] for side in both)
    rates = [float(moe.throughput), float(dense.throughput)]
    read = float(service.workload.read) / float(np.asarray(service.workload.answer))
    chip = merged(service.cluster).accelerator
    peak = float(chip.peak_flops[int(chip.arithmetic[int(model.precision.experts.index)])])
    times = [
        1.0 / rate + read * 2.0 * float(parameter_count(side).active) / peak if rate else np.inf
        for rate, side in zip(rates, (model, match), strict=True)
    ]
    return {
        "merged": rates[1] / rates[0] if rates[0] else None,
        "merged_requests": times[0] / times[1] if np.isfinite(times[1]) else None,
    }


def balance(model: str, cluster: str) -> list[Row]:
    """Of an MoE on a cluster: the context at which reading the cache of a token takes as long as
    its arithmetic at the peak of the experts' format, and the share of the memory that its weights
    take.

        S0 = 2 N_active bandwidth / (peak cache of a token)
    """
    case = asked({"model": model, "cluster": cluster, "prompt": 1024.0, "answer": 1024.0})
    chip = merged(case.service.cluster).accelerator
    peak = float(chip.peak_flops[int(chip.arithmetic[int(case.model.precision.experts.index)])])
    arithmetic = 2.0 * float(parameter_count(case.model).active) / peak
    cache = float(np.asarray(kv_bytes_per_token(case.model))) / float(chip.bandwidth)
    weights = float(memory(case.model, case.service, Deployment()).weights)
    share = weights / float(chip.memory_bytes)
    known = {"model": model, "cluster": cluster}
    return [{**known, "balance": arithmetic / cache, "weights_over_memory": share}]
