"""Changes of how a model is stored and how it drafts. Its architecture, and with it the quality by
any law, stays; what a narrower format costs in quality no law here says.
"""

from dataclasses import replace

import equinox as eqx
import numpy as np

from qsopt.proposals.bodies import Body
from qsopt.proposals.configs import model_of
from qsopt.proposals.fields import Task
from qsopt.proposals.points import Point
from qsopt.proposals.priors import MOE
from qsopt.serving.ranking import Option, ranked
from qsopt.serving.replica import Served
from qsopt.serving.speculation import next_token_layer
from qsopt.serving.ways import asked, layouts_of, lists
from qsopt.spec.service import Service

FORMATS = ("bf16", "fp8_block", "mxfp4")
"""Of weights, as proposals are written."""

ACCEPTANCE = 0.85
"""Share of second tokens that stand: 85 to 90 % of those of DeepSeek-V3's own layer for them (arXiv
2412.19437, section 5.4.3).
"""

DRAFTED = "a draft layer, 2 tokens a step"


def other_formats(task: Task, family: str) -> dict[str, Task]:
    """The same search with weights in each other format that is written for the family, in words;
    mxfp4 is of experts alone.
    """
    return {
        f"weights {task.body.precision} to {each}": replace(
            task, body=replace(task.body, precision=each)
        )
        for each in FORMATS
        if each != task.body.precision and (each != "mxfp4" or family == MOE)
    }


def served_as(point: Point, body: Body, service: Service) -> Served:
    """A design as it is served with these formats."""
    return Served(model_of(point.row, body), service)


def with_drafts(served: Served, tokens: float) -> Served:
    """The same with one layer of the model's own kind for drafts, and so many tokens in a step."""
    service = eqx.tree_at(
        lambda s: (s.workload.tokens_per_step, s.workload.acceptance),
        served.service,
        (np.float64(tokens), np.float64(ACCEPTANCE)),
    )
    return Served(served.model, service, next_token_layer(served.model))


def best_with_drafts(served: Served) -> Option | None:
    """A model that drafts, in its best way of serving; None if none keeps the limits."""
    drafting = with_drafts(served, 2.0)
    made = asked(drafting.model, drafting.service, drafting.draft)
    every, groups = lists(layouts_of(made.model, made.service))
    return next(iter(ranked(made, every, groups, 1)), None)
