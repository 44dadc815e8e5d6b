"""Plans of one pool with the sizes that a command gives."""

import jax
import numpy as np

from qsopt.cli.evaluate import Evaluate
from qsopt.deployments.request import at_batch, open_layouts
from qsopt.serving.given import ONE_POOL, best_given
from qsopt.serving.ranking import Option
from qsopt.serving.replica import Served
from qsopt.serving.speculation import next_token_layer
from qsopt.serving.ways import asked
from qsopt.spec.model import Model
from qsopt.spec.service import Service


def best_plan(question: Evaluate, model: Model, service: Service) -> tuple[Served, Option, str]:
    """The best plan, and how it came about."""
    request = question.request()
    layouts = open_layouts(model, service, request)
    if question.batch is not None:
        layouts = at_batch(layouts, question.batch)
    ways = ONE_POOL if question.way_of_serving is None else (question.way_of_serving,)
    draft = next_token_layer(model) if question.tokens_per_step > 1.0 else None
    served = jax.tree.map(np.asarray, asked(model, service, draft))
    option = best_given(served, layouts, question.batch, ways)
    chosen = "sizes as given, best chunk" if request.names_layout else "best legal layout and chunk"
    return served, option, chosen
