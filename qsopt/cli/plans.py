"""Plans of one pool with the sizes that a command gives."""

import jax
import numpy as np

from qsopt.deployments.request import Request, at_batch, open_layouts
from qsopt.serving.given import ONE_POOL, best_given
from qsopt.serving.ranking import Option
from qsopt.serving.replica import Served
from qsopt.serving.speculation import next_token_layer
from qsopt.serving.ways import asked
from qsopt.spec.model import Model
from qsopt.spec.service import Service


def best_plan(
    model: Model, service: Service, request: Request, way: str | None
) -> tuple[Served, Option, str]:
    """The best plan of the layouts that a request leaves open, and how it came about.

    Args:
        model: what is served.
        service: what for.
        request: sizes and batch as they are given.
        way: of serving; the one that serves more if None.
    """
    layouts = open_layouts(model, service, request)
    if request.batch is not None:
        layouts = at_batch(layouts, request.batch)
    draft = next_token_layer(model) if float(service.workload.tokens_per_step) > 1.0 else None
    served = jax.tree.map(np.asarray, asked(model, service, draft))
    option = best_given(served, layouts, request.batch, ONE_POOL if way is None else (way,))
    chosen = "sizes as given, best chunk" if request.names_layout else "best legal layout and chunk"
    return served, option, chosen
