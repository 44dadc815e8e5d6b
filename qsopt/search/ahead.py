"""Compiling what a search needs later while it is busy: half of the time to a first answer goes
into compiling.

Each function is called once with arguments of the right shapes. A failure here is not raised: the
search meets it again where it needs the result.
"""

import numpy as np

from qsopt.deployments.batches import take
from qsopt.deployments.best import Best
from qsopt.search.architecture import reference_row
from qsopt.search.evaluator import Evaluator
from qsopt.search.exact import PART, Scorer
from qsopt.search.polish import MOVING, terms_and_slopes
from qsopt.search.relaxed import Relaxed
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import sensitivity
from qsopt.spec.deployment import Deployment


def prepare_scores(evaluator: Evaluator) -> Best:
    """The exact scores of architectures; gives those of the reference in some layouts."""
    problem = evaluator.problem
    row = reference_row(problem.reference, problem.architecture)
    some = take(evaluator.scorer.layouts, slice(0, PART))
    return Scorer(problem, some).best(row)


def prepare_slopes(evaluator: Evaluator) -> None:
    """The slopes of a design."""
    problem, best = evaluator.problem, prepare_scores(evaluator)
    sensitivity(Design(problem.reference, problem.service, take(best.deployment, 0)))


def prepare_polish(relaxed: Relaxed) -> None:
    """The slopes of the relaxed problem in a layout."""
    kept = {name: np.asarray(1.0) for name in relaxed.names if name not in MOVING}
    point = np.full(len(relaxed.names), 0.5)
    terms_and_slopes(relaxed, point, kept, Deployment())  # pyright: ignore[reportArgumentType]
