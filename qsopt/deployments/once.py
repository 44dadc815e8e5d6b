"""The best deployment of one model of which nothing else is asked, without a program for it."""

import numpy as np

from qsopt import xp
from qsopt.arrays import is_concrete
from qsopt.deployments.batches import CHUNK, in_numpy, length, repeat, same_length, take
from qsopt.deployments.best import Best
from qsopt.deployments.contest import TIED
from qsopt.deployments.optimum import best_of_each, of_case
from qsopt.spec.counterfactual import ACTUAL
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

FEW = 2 * CHUNK
"""Layouts that NumPy searches for one model in less time than a program takes to be read."""

WIDE = 256
"""Of them NumPy evaluates so many side by side."""


def best_of_one(model: Model, service: Service, layouts: Deployment) -> Best:
    """The best deployment of one model, of which nothing else will be asked: of few layouts by
    NumPy, for which nothing is compiled. Arguments are those of `searched`.
    """
    if length(layouts) > FEW or not is_concrete((model, service, layouts)):
        filled, models = same_length(layouts)[0], repeat(model, 1)
        return take(best_of_each(models, service, filled), 0)
    model, layouts = in_numpy(model), in_numpy(layouts)
    with np.errstate(all="ignore"):
        nothing = xp.zeros(length(layouts))
        return of_case(model, service.priced, layouts, nothing, 0.0, TIED, ACTUAL, WIDE).best
