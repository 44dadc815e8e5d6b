"""Compiling what a search needs later while it is busy: half of the time to a first answer goes
into compiling.

Each function is called once with arguments of the right shapes. A failure here is not told: the
search meets it again where it needs the result.
"""

import jax
import numpy as np

from qsopt.search.architecture import reference_value
from qsopt.search.exact import PART, Scorer
from qsopt.search.judge import Judge
from qsopt.search.polish import MOVING, terms_and_slopes
from qsopt.search.relaxed import Relaxed
from qsopt.sensitivity.inputs import Design
from qsopt.sensitivity.slopes import sensitivity


def prepare_judge(judge: Judge) -> None:
    """The exact scores of architectures, and the slopes of a design."""
    problem = judge.problem
    row = np.array(
        [[reference_value(problem.reference, each.name) for each in problem.architecture]]
    )
    some = jax.tree.map(lambda leaf: np.asarray(leaf)[:PART], judge.scorer.layouts)
    best = Scorer(problem, some).best(row)
    deployment = jax.tree.map(lambda leaf: np.asarray(leaf)[0], best.deployment)
    service = problem.service
    sensitivity(Design(problem.reference, service, deployment))


def prepare_polish(relaxed: Relaxed) -> None:
    """The slopes of the relaxed problem in a layout."""
    kept = {name: np.asarray(1.0) for name in relaxed.names if name not in MOVING}
    terms_and_slopes(relaxed, np.full(len(relaxed.names), 0.5), kept, np.asarray(0.0))  # pyright: ignore[reportArgumentType]
