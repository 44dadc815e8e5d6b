"""qsopt: where a Mixture-of-Experts model beats or loses to a dense model of the same quality at
inference, and why.

Every public name stands in `__all__`. Functions take models, clusters, efficiency sets and laws by
name or as records, compute in float64 whatever precision the process works in, and work inside
`jax.jit`, `jax.grad` and `jax.vmap` where they are functions of numbers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from qsopt.version import __version__

if TYPE_CHECKING:
    from qsopt.api.comparisons import belief, compare, dense_twin, geometric_q
    from qsopt.api.designs import (
        evaluate,
        kv_bytes_per_token,
        legal_layouts,
        parameter_count,
        prefill,
        sensitivity,
    )
    from qsopt.api.lifetime import lifetime
    from qsopt.api.many import evaluate_many
    from qsopt.api.maps import axis, crossovers, phase_map
    from qsopt.api.names import load_efficiency
    from qsopt.api.proposals import propose
    from qsopt.api.requests import serve
    from qsopt.api.searches import design_problem, optimize
    from qsopt.api.sweeps import Sweep, sweep
    from qsopt.catalog.accelerators import accelerator_names, load_accelerator, load_cluster
    from qsopt.catalog.models import load_model, model_names
    from qsopt.comparison.compare import Comparison, Side
    from qsopt.comparison.requests import RequestComparison
    from qsopt.errors import InputError
    from qsopt.lifetimes.lifetime import Lifetime
    from qsopt.maps.crossover import Crossovers
    from qsopt.maps.phase_map import PhaseMap
    from qsopt.maps.request_map import RequestMap
    from qsopt.physics.evaluate import Metrics
    from qsopt.physics.parameters import Parameters
    from qsopt.physics.roofline import Spent
    from qsopt.quality import QualityLaw, law, laws
    from qsopt.quality.belief import Belief
    from qsopt.search.budgets import Budgets
    from qsopt.search.problem import DesignProblem
    from qsopt.search.request_answer import RequestSolution
    from qsopt.search.solution import Solution
    from qsopt.serving.answer import Serving
    from qsopt.serving.metrics import RequestMetrics
    from qsopt.serving.plan import Plan
    from qsopt.slopes.requests import RequestSensitivity
    from qsopt.slopes.sensitivity import Sensitivity
    from qsopt.spec.counterfactual import Counterfactual
    from qsopt.spec.deployment import Deployment
    from qsopt.spec.efficiency import Efficiency, ideal
    from qsopt.spec.formats import number_format
    from qsopt.spec.hardware import Accelerator, Cluster
    from qsopt.spec.model import Model
    from qsopt.spec.service import Service
    from qsopt.spec.workload import Workload

_PLACES = {
    "qsopt.api.comparisons": "belief compare dense_twin geometric_q",
    "qsopt.api.designs": "evaluate kv_bytes_per_token legal_layouts parameter_count prefill "
    "sensitivity",
    "qsopt.api.lifetime": "lifetime",
    "qsopt.api.many": "evaluate_many",
    "qsopt.api.maps": "axis crossovers phase_map",
    "qsopt.api.names": "load_efficiency",
    "qsopt.api.proposals": "propose",
    "qsopt.api.requests": "serve",
    "qsopt.api.searches": "design_problem optimize",
    "qsopt.api.sweeps": "Sweep sweep",
    "qsopt.catalog.accelerators": "accelerator_names load_accelerator load_cluster",
    "qsopt.catalog.models": "load_model model_names",
    "qsopt.comparison.compare": "Comparison Side",
    "qsopt.comparison.requests": "RequestComparison",
    "qsopt.errors": "InputError",
    "qsopt.lifetimes.lifetime": "Lifetime",
    "qsopt.maps.crossover": "Crossovers",
    "qsopt.maps.phase_map": "PhaseMap",
    "qsopt.maps.request_map": "RequestMap",
    "qsopt.physics.evaluate": "Metrics",
    "qsopt.physics.parameters": "Parameters",
    "qsopt.physics.roofline": "Spent",
    "qsopt.quality": "QualityLaw law laws",
    "qsopt.quality.belief": "Belief",
    "qsopt.search.budgets": "Budgets",
    "qsopt.search.problem": "DesignProblem",
    "qsopt.search.request_answer": "RequestSolution",
    "qsopt.search.solution": "Solution",
    "qsopt.serving.answer": "Serving",
    "qsopt.serving.metrics": "RequestMetrics",
    "qsopt.serving.plan": "Plan",
    "qsopt.slopes.requests": "RequestSensitivity",
    "qsopt.slopes.sensitivity": "Sensitivity",
    "qsopt.spec.counterfactual": "Counterfactual",
    "qsopt.spec.deployment": "Deployment",
    "qsopt.spec.efficiency": "Efficiency ideal",
    "qsopt.spec.formats": "number_format",
    "qsopt.spec.hardware": "Accelerator Cluster",
    "qsopt.spec.model": "Model",
    "qsopt.spec.service": "Service",
    "qsopt.spec.workload": "Workload",
}
"""Modules and the public names in them, each loaded when one of its names is first asked for: a
command makes its settings before JAX starts, and optimisers take longer to import than all else.
"""

_MODULES = {name: module for module, names in _PLACES.items() for name in names.split()}

__all__ = [
    "Accelerator",
    "Belief",
    "Budgets",
    "Cluster",
    "Comparison",
    "Counterfactual",
    "Crossovers",
    "Deployment",
    "DesignProblem",
    "Efficiency",
    "InputError",
    "Lifetime",
    "Metrics",
    "Model",
    "Parameters",
    "PhaseMap",
    "Plan",
    "QualityLaw",
    "RequestComparison",
    "RequestMap",
    "RequestMetrics",
    "RequestSensitivity",
    "RequestSolution",
    "Sensitivity",
    "Service",
    "Serving",
    "Side",
    "Solution",
    "Spent",
    "Sweep",
    "Workload",
    "__version__",
    "accelerator_names",
    "axis",
    "belief",
    "compare",
    "crossovers",
    "dense_twin",
    "design_problem",
    "evaluate",
    "evaluate_many",
    "geometric_q",
    "ideal",
    "kv_bytes_per_token",
    "law",
    "laws",
    "legal_layouts",
    "lifetime",
    "load_accelerator",
    "load_cluster",
    "load_efficiency",
    "load_model",
    "model_names",
    "number_format",
    "optimize",
    "parameter_count",
    "phase_map",
    "prefill",
    "propose",
    "sensitivity",
    "serve",
    "sweep",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'qsopt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
