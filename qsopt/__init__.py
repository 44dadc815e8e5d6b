"""qsopt: where a Mixture-of-Experts model beats or loses to a dense model of the same quality at
inference, and why.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from qsopt.catalog.accelerators import accelerator_names as accelerator_names
from qsopt.catalog.accelerators import load_accelerator as load_accelerator
from qsopt.catalog.accelerators import load_cluster as load_cluster
from qsopt.catalog.efficiencies import load_efficiency as load_efficiency
from qsopt.catalog.models import load_model as load_model
from qsopt.catalog.models import model_names as model_names
from qsopt.comparison.compare import Comparison as Comparison
from qsopt.comparison.compare import compare as compare
from qsopt.comparison.twin import dense_twin as dense_twin
from qsopt.comparison.twin import geometric_q as geometric_q
from qsopt.deployments.layouts import legal_layouts as legal_layouts
from qsopt.errors import InputError as InputError
from qsopt.physics.accounting import kv_bytes_per_token as kv_bytes_per_token
from qsopt.physics.accounting import parameter_count as parameter_count
from qsopt.physics.evaluate import Metrics as Metrics
from qsopt.physics.evaluate import evaluate as evaluate
from qsopt.physics.prefill import prefill as prefill
from qsopt.spec.deployment import Deployment as Deployment
from qsopt.spec.efficiency import ideal as ideal
from qsopt.spec.formats import number_format as number_format
from qsopt.spec.hardware import Accelerator as Accelerator
from qsopt.spec.hardware import Cluster as Cluster
from qsopt.spec.model import Model as Model
from qsopt.spec.workload import Workload as Workload

if TYPE_CHECKING:
    from qsopt.search.optimize import optimize as optimize
    from qsopt.search.problem import DesignProblem as DesignProblem
    from qsopt.search.problem import design_problem as design_problem
    from qsopt.search.solution import Solution as Solution

_SEARCH = {
    "optimize": "optimize",
    "Solution": "solution",
    "DesignProblem": "problem",
    "design_problem": "problem",
}
"""Names of the search and their modules, loaded when first asked for: its optimisers take longer to
import than all else.
"""


def __getattr__(name: str) -> object:
    if name in _SEARCH:
        return getattr(import_module(f"qsopt.search.{_SEARCH[name]}"), name)
    raise AttributeError(f"module 'qsopt' has no attribute '{name}'")
