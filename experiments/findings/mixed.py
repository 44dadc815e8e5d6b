"""Do prompts that are read in the same steps cure the fragmentation of the MoE's weight reads?

`python -m experiments.findings.mixed` takes requests of one context of which more and more prompt
tokens are read for each token that is written (the rest is cached), and asks what the MoE would
serve if every token picked the same experts: the penalty of reuse, with prompts in the same steps
(mixed), between steps (alternating), and elsewhere (disaggregated). Beside it: what speculation,
redundant experts and overlap do to the ratio of dense over MoE, at the calibrated q and at that of
every law as published, and to the penalty, in which no q stands.
"""

from dataclasses import dataclass

import jax
import numpy as np

from experiments.findings import sides
from experiments.findings.mixed_figure import draw
from experiments.findings.sides import asked, at_law, compared, duel, limited
from experiments.framework import study
from experiments.framework.pieces import Row
from qsopt.serving.replica import Served
from qsopt.serving.ways import SEARCHED, layouts_of, lists, searched
from qsopt.spec.counterfactual import ACTUAL, Counterfactual

NAME = "mixed"

WHOLE_READS = Counterfactual(reuse=0.0)
"""A world in which every token picks the same experts."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Models with their clusters, and what is moved."""

    models: tuple[tuple[str, str], ...]
    prompt: float
    answer: float
    read: tuple[float, ...]
    """Prompt tokens read for each token written; the rest of the prompt is cached."""
    limits_ms: tuple[float, ...]
    """Of the time per output token; 0 for none."""
    tokens_per_step: tuple[float, ...]
    """Of speculation; with `acceptance`."""
    acceptance: float
    changes: tuple[tuple[str, str, str], ...]
    """Words, flag and value of what is switched off one by one."""
    change_limit_ms: float
    changed: tuple[tuple[str, str], ...]
    """Models with their clusters, of one node and of several."""
    laws: tuple[str, ...]
    """Whose own q is asked too."""


def penalties(
    model: str, cluster: str, prompt: float, answer: float, limit_ms: float, read: list[float]
) -> list[Row]:
    """The penalty of reuse in every way of serving, along what is read."""
    rows = []
    for share in read:
        cached = 1.0 - share * answer / prompt
        lengths = {"prompt": prompt, "answer": answer, "cached": cached}
        case = asked({"model": model, "cluster": cluster, **lengths, **limited(limit_ms)})
        layouts = layouts_of(case.model, case.service)
        for way in SEARCHED:
            every, groups = lists(layouts, (way,))
            reached = []
            for world in (ACTUAL, WHOLE_READS):
                served = Served(case.model, case.service, None, world)
                served = jax.tree.map(np.asarray, served)
                reached.append(float(searched(served, every, groups).ways.throughput))
            where = {"model": model, "cluster": cluster, "limit_ms": limit_ms, "read": share}
            known = {"way": way, "tokens_per_s": reached[0]}
            rows.append({**where, **known, "penalty": _over(reached[1], reached[0])})
    return rows


def _over(one: float, other: float) -> float | None:
    return one / other if one and other else None


def by_law(model: str, cluster: str, flags: Row, words: str, law: str) -> list[Row]:
    """The ratio with some flags, at a law's own q."""
    found = compared(model=model, cluster=cluster, **flags, **at_law(law))
    return [{"model": model, "cluster": cluster, "change": words, "law": law, **found}]


def beside(model: str, cluster: str, flags: Row, words: str) -> list[Row]:
    """The ratio and the penalty of reuse with some flags."""
    asked_flags = {"model": model, "cluster": cluster, **flags}
    found = compared(**asked_flags)
    case = asked(asked_flags)
    moe = duel(case).moe
    whole = moe.throughput(case.service, world=WHOLE_READS)
    penalty = _over(whole, found["moe_tokens_per_s"])
    return [{"model": model, "cluster": cluster, "change": words, **found, "penalty": penalty}]


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        lengths = {"prompt": settings.prompt, "answer": settings.answer}
        keys = [
            {"model": m, "cluster": c, **lengths, "limit_ms": limit, "read": settings.read}
            for m, c in settings.models
            for limit in settings.limits_ms
        ]
        rows = study.joined(this.pieces(keys, penalties, (sides,)))
        base: Row = {**lengths, "tpot_ms": settings.change_limit_ms}
        drafted = {
            f"{n:g} tokens a step": {"tokens_per_step": n, "acceptance": settings.acceptance}
            for n in settings.tokens_per_step
        }
        changed = {words: {flag: value} for words, flag, value in settings.changes}
        keys = [
            {"model": model, "cluster": cluster, "flags": base | change, "words": words}
            for model, cluster in settings.changed
            for words, change in {"as it is": {}, **drafted, **changed}.items()
        ]
        more = study.joined(this.pieces(keys, beside, (sides,)))
        keys = [key | {"law": law} for key in keys for law in settings.laws]
        laws = study.joined(this.pieces(keys, by_law, (sides,)))
        this.write(rows, draw, changes=more, laws=laws)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
