"""How much of a verdict is attention, and how much is sparsity?

`python -m experiments.findings.attention` gives the MoE and its dense match latent attention (of
DeepSeek-V3), grouped attention with eight KV heads, or one each, at the same q, and compares them
for decode alone and on requests, at the calibrated q and at that of every law as published.
Released dense shapes are deeper than the MoE's body, so that the same attention holds more cache
there.
"""

from dataclasses import dataclass, replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from experiments.findings import sides
from experiments.findings.attention_figure import draw
from experiments.findings.sides import Asked, asked, at_law, outcome
from experiments.framework import study
from experiments.framework.pieces import Row
from qsopt.comparison.dense import RELEASED, RELEASED_GQA8, SAME_BODY, MatchKind, dense_match
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.record import name_of
from qsopt.spec.layers import Gqa, Layers, Mla, Stack
from qsopt.spec.model import Model

NAME = "attention"

HEAD = 128.0
KV_HEADS = 8.0


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Models with their clusters, and questions."""

    models: tuple[tuple[str, str], ...]
    contexts: tuple[float, ...]
    """Of decode alone [tokens]."""
    requests: tuple[tuple[float, float], ...]
    """Prompts and answers [tokens]."""
    laws: tuple[str, ...]
    """Whose own q is asked too."""


def grouped(model: Model) -> Model:
    """The model with grouped attention in all layers: heads of 128 as wide as the hidden size
    together, eight KV heads.
    """
    heads = KV_HEADS * jnp.round(model.hidden / (HEAD * KV_HEADS))
    return _with(model, Gqa(heads, KV_HEADS, HEAD, small=model.hidden))


def latent(model: Model) -> Model:
    """The model with the latent attention of DeepSeek-V3 (arXiv 2412.19437) in all layers, as many
    heads as its own hidden size has of 56, the width of one head there.
    """
    heads = 8.0 * jnp.round(model.hidden / (56.0 * 8.0))
    return _with(model, Mla(heads, 1536.0, 512.0, 128.0, 64.0, 128.0))


def _with(model: Model, kind: Gqa | Mla) -> Model:
    stack = Stack((Layers(model.layers, kind),), model.decoder.ffn)
    return eqx.tree_at(lambda m: m.decoder, model, stack)


WAYS: dict[str, tuple[str, str]] = {
    "latent on both": ("latent", "latent"),
    "latent on the MoE alone": ("latent", "grouped"),
    "latent on the dense model alone": ("grouped", "latent"),
    "grouped on both": ("grouped", "grouped"),
}


def attentions(
    model: str, cluster: str, context: float, prompt: float, answer: float, law: str
) -> list[Row]:
    """Every attention on either side, in the MoE's body and in released shape."""
    asking = {"context": context} if context else {"prompt": prompt, "answer": answer}
    case = asked({"model": model, "cluster": cluster, **asking, **at_law(law)})
    kinds = {"latent": latent(case.model), "grouped": grouped(case.model)}
    own = "latent" if isinstance(case.model.decoder.attention[0].kind, Mla) else "grouped"
    kinds[own] = case.model
    rows = []
    for words, (moe, dense) in WAYS.items():
        rows.append(_row(case, words, "released", kinds[moe], kinds[dense], _released(dense)))
    for name, kind in kinds.items():
        rows.append(_row(case, f"{name} on both", "same body", kind, kind, SAME_BODY))
    where = {"model": model, "cluster": cluster, "law": law, "own": own, **asking}
    question = (
        f"{context / 1024:.0f}k" if context else f"{prompt / 1024:.0f}k / {answer / 1024:.0f}k"
    )
    return [{**where, "question": question, "requests": not context, **row} for row in rows]


def _released(attention: str) -> MatchKind:
    return RELEASED if attention == "latent" else RELEASED_GQA8


def _row(case: Asked, words: str, shape: str, moe: Model, like: Model, kind: MatchKind) -> Row:
    """A ratio; the dense match is made of a model that has the attention that it is to have."""
    match = dense_match(like, jnp.asarray(case.q), kind)
    inquiry = replace(case.inquiry, model=moe, model_name=name_of(moe), kind=kind)
    asked_of = Asked(case.question, moe, case.service, inquiry, match)
    cache = [float(np.asarray(kv_bytes_per_token(side))) for side in (moe, match)]
    return {
        "attention": words,
        "shape": shape,
        **outcome(asked_of, *sides.sides(asked_of)),
        "moe_cache": cache[0],
        "dense_cache": cache[1],
        "q": case.q,
    }


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        questions = [(context, 0.0, 0.0) for context in settings.contexts]
        questions += [(0.0, *lengths) for lengths in settings.requests]
        keys = [
            {"model": model, "cluster": cluster, "context": c, "prompt": p, "answer": a, "law": law}
            for law in ("", *settings.laws)
            for model, cluster in settings.models
            for c, p, a in questions
        ]
        rows = study.joined(this.pieces(keys, attentions, (sides,)))
        calibrated, laws = (
            [row for row in rows if bool(row["law"]) == own] for own in (False, True)
        )
        this.write(calibrated, draw, laws=laws)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
