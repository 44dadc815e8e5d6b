"""How long must an answer be for the dense match to win?

`python -m experiments.findings.lengths` seeks, with the crossover finder, the length of the answer
from which on the dense model serves more output tokens/s than the MoE: for four models on four
clusters with long prompts, and along the prompt and the share of it that is cached. Answers end
where the model's trained context does.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.findings import sides
from experiments.findings.lengths_figure import draw
from experiments.findings.turns import break_even
from experiments.framework import study
from qsopt.catalog.models import trained_context

NAME = "lengths"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Where a break-even is sought."""

    models: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Model, dense match (`same-body`, `released`, or a model), and clusters."""
    prompt: float
    """Of the table of models and clusters, or as long as the trained context allows [tokens]."""
    drawn: tuple[tuple[str, str, str], ...]
    """Model, match and cluster of a panel."""
    prompts: tuple[float, ...]
    """Along a panel [tokens]."""
    cached: tuple[float, ...]
    """Shares of the prompt that are cached, a line each."""
    laws: tuple[str, ...]
    """Whose own q is asked too, on the first two panels' clusters with the table's prompt."""


def long_prompt(model: str, prompt: float) -> float:
    """The prompt of the table: as asked, or what leaves half of the trained context to answers
    that fit beside it.
    """
    trained = trained_context(model)
    room = np.inf if trained is None else trained
    return float(prompt if prompt * 1.25 <= room else room / 2.0)


def _key(case: tuple[str, str, str], prompt: float, cached: float = 0.0) -> dict[str, Any]:
    """What a break-even is sought for: a model, its match and a cluster, and the prompt."""
    return dict(zip(("model", "match", "cluster"), case, strict=True)) | {
        "prompt": prompt,
        "cached": cached,
    }


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        keys = [
            _key((model, match, cluster), long_prompt(model, settings.prompt))
            for model, match, clusters in settings.models
            for cluster in clusters
        ]
        table = study.joined(this.pieces(keys, break_even, (sides,)))
        keys = [
            _key(case, prompt, share)
            for case in settings.drawn
            for share in settings.cached
            for prompt in settings.prompts
        ]
        rows = study.joined(this.pieces(keys, break_even, (sides,)))
        keys = [
            _key(case, long_prompt(case[0], settings.prompt)) | {"law": law}
            for case in settings.drawn[:2]
            for law in settings.laws
        ]
        laws = study.joined(this.pieces(keys, break_even, (sides,)))
        this.write(rows, draw, table=table, laws=laws)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
