"""The question of a search: a reference, what is free, the objective, and what must be kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import equinox as eqx
import numpy as np

from qsopt.arrays import Scalar
from qsopt.comparison.dense import (
    NAMED,
    RELEASED,
    MatchKind,
    kinds_of,
    match_shape,
    with_sizes,
)
from qsopt.deployments.request import check_sizes
from qsopt.errors import InputError, exactly, unknown_name
from qsopt.physics.energy import PowerLaw
from qsopt.quality import QualityLaw, law
from qsopt.quality.calibration import calibrate
from qsopt.quality.of_model import UNKNOWN_TOKENS
from qsopt.search.architecture import ROUTED, matched_sizes
from qsopt.search.budgets import Budgets
from qsopt.search.usual import LARGEST_BATCH, fixed_variable, usual_size, usual_variable
from qsopt.search.variables import ARCHITECTURE, DEPLOYMENT, Variable
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service

Objective = Literal["throughput", "per_user", "cost", "advantage", "ttft", "energy"]

UNITS = {
    "throughput": "tokens/s",
    "per_user": "tokens/s",
    "cost": "US dollars per million tokens",
    "advantage": "log of throughput of MoE over dense",
    "ttft": "s",
    "energy": "joules per output token",
}

DEFAULT_VARY = ("experts", "top_k", "expert_width", "tp", "dp", "pp", "ep", "batch")


@dataclass(frozen=True)
class DesignProblem:
    """A question that `optimize` answers."""

    reference: Model
    """What does not vary is its own."""
    service: Service
    """Cluster, workload and efficiencies."""
    variables: tuple[Variable, ...]
    """Architecture variables that are free, and all of the deployment."""
    objective: Objective = "throughput"
    """What is made as large as possible, or for a cost, a time and an energy as small."""
    minimize: bool = False
    """For the advantage: the worst case for MoE instead of the best."""
    law: QualityLaw = field(default_factory=lambda: law("geometric"))
    """How quality is compared."""
    tokens: float = UNKNOWN_TOKENS
    """Training tokens, for laws that use them."""
    kind: MatchKind = RELEASED
    """The dense match that an advantage is over."""
    law_raw: bool = False
    """Whether the size of the match is the bare law's, not the median of its calibration."""
    keep_quality: bool = True
    """Whether a design must be as good as the reference by the law."""
    most_total: float = np.inf
    """Ceiling on all parameters."""
    most_active: float = np.inf
    """Ceiling on the parameters of a token."""
    power: PowerLaw | None = None
    """Of devices, for the energy of requests."""
    budgets: Budgets = field(default_factory=Budgets)
    """Of devices, their rental and training; the service is on what they pay for."""
    unlimited: Service | None = None
    """The service on all of the cluster; None where that is the service itself."""

    @property
    def on_requests(self) -> bool:
        """Whether whole requests are asked about, not a decode step."""
        return self.service.workload.prompt is not None

    @cached_property
    def correction(self) -> Scalar | None:
        """What the observed matches add to log q of the law; None for the bare law, and where no
        match is needed.
        """
        if self.law_raw or self.objective != "advantage":
            return None
        return np.asarray(float(calibrate(self.law).correction))

    def match(self, model: Model) -> Model:
        """The dense match of a design."""
        sizes = matched_sizes(model, self.law, np.asarray(float(self.tokens)), self.correction)
        return with_sizes(model, match_shape(model, sizes.match, self.kind), self.kind)

    @property
    def architecture(self) -> tuple[Variable, ...]:
        """Free variables of the model."""
        return tuple(
            variable
            for variable in self.variables
            if variable.name in ARCHITECTURE and variable.free
        )

    def variable(self, name: str) -> Variable:
        """One variable."""
        return next(variable for variable in self.variables if variable.name == name)


def design_problem(
    reference: Model,
    service: Service,
    vary: Iterable[str] = DEFAULT_VARY,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, Variable] | None = None,
    budgets: Budgets | None = None,
    **options: object,
) -> DesignProblem:
    """A problem with the usual bounds.

    Args:
        reference: the model to start from.
        service: cluster, workload and efficiencies.
        vary: names of free variables (`etp` follows from tp * dp = ep * etp, so it is ep that
            varies).
        fixed: values of deployment variables that are not free; 1 for those left out.
        bounds: variables to use instead of the usual ones, by name.
        budgets: of devices, their rental and training.
        **options: other fields of `DesignProblem`.

    Raises:
        InputError: if a name is unknown, or the question has no meaning.
    """
    names, fixed, bounds = _known_names(vary), dict(fixed or {}), dict(bounds or {})
    budgets, unlimited = Budgets() if budgets is None else budgets, service
    service = budgets.within(unlimited)
    _check_fixed(reference, service.cluster, names, fixed)
    model = [
        bounds.get(name) or usual_variable(reference, name)
        for name in ARCHITECTURE
        if name in names
    ]
    deployment = [
        bounds.get(name)
        or (
            usual_size(service.cluster, reference, name)
            if name in names
            else fixed_variable(name, fixed)
        )
        for name in DEPLOYMENT
    ]
    known = {"budgets": budgets, "unlimited": unlimited, **options}
    problem = DesignProblem(reference, service, (*model, *deployment), **known)  # pyright: ignore[reportArgumentType]
    _check(problem)
    _check_question(problem, [*fixed, *(name for name in bounds if name in DEPLOYMENT)])
    return problem


def _known_names(vary: Iterable[str]) -> list[str]:
    """Names of variables, `ep` for `etp`."""
    names = ["ep" if name == "etp" else name for name in vary]
    unknown = [name for name in names if name not in (*ARCHITECTURE, *DEPLOYMENT)]
    if unknown:
        raise InputError(
            f"vary: unknown '{unknown[0]}'; choose from "
            f"{', '.join((*ARCHITECTURE, *DEPLOYMENT, 'etp'))}"
        )
    return names


def _check_fixed(
    reference: Model, cluster: Cluster, names: list[str], fixed: Mapping[str, float]
) -> None:
    """Refuse sizes that vary too, and those that no layout of the reference has.

    Raises:
        InputError: naming the size.
    """
    for name, value in fixed.items():
        if name in names:
            raise InputError(
                f"{name} = {exactly(value)}: it varies; leave it out, or {name} out of what varies"
            )
        if name not in DEPLOYMENT:
            raise unknown_name("fixed size", name, DEPLOYMENT)
        if not (1 <= value <= LARGEST_BATCH and value == int(value)):
            raise InputError(
                f"{name} = {exactly(value)}: give a whole number, 1 to {LARGEST_BATCH:,.0f}"
            )
    if not {"layers", "kv_heads"} & {*names}:
        tensor, data, pipeline = (fixed.get(name, 1.0) for name in ("tp", "dp", "pp"))
        check_sizes(reference, cluster, Deployment(tensor, data, pipeline))


def _check_ceilings(problem: DesignProblem) -> None:
    for name in ("most_total", "most_active"):
        if not getattr(problem, name) > 0:
            ceiling = exactly(float(getattr(problem, name)))
            raise InputError(
                f"{name.replace('most', 'max')} = {ceiling}: give a positive number of parameters"
            )


OF_REQUESTS = ("ttft", "energy")
"""Objectives that only whole requests have."""


def _check_question(problem: DesignProblem, sizes: list[str]) -> None:
    """Refuse what a decode step, or whole requests, have no answer to.

    Args:
        problem: the question.
        sizes: variables of the deployment that were set.

    Raises:
        InputError: naming it.
    """
    objective, chip = problem.objective, problem.service.cluster.accelerator
    if not problem.on_requests:
        if objective in OF_REQUESTS:
            raise InputError(
                f"objective = {objective}: it is of whole requests; give --prompt and --answer "
                f"instead of --context"
            )
        return
    if objective == "advantage":
        raise InputError(
            "objective = advantage: it is of a decode step; give --context, or ask compare about "
            "an MoE and its dense match on requests"
        )
    if sizes:
        raise InputError(
            f"{sizes[0]}: on requests layouts and batches are those of the best way of serving; "
            f"leave it out, or ask evaluate about one layout"
        )
    if objective == "energy" and not np.isfinite(float(chip.power_limit)):
        raise InputError(
            "objective = energy: no power limit is known for this accelerator; state power.tdp_W "
            "in a copy of its file"
        )


def _check(problem: DesignProblem) -> None:
    _check_ceilings(problem)
    if problem.objective not in get_args(Objective):
        raise InputError(
            f"objective = {problem.objective}: take one of {', '.join(get_args(Objective))}"
        )
    if moe_layers(problem.reference) is None:
        raise InputError(
            "the reference model is dense: optimize varies the experts of an MoE; ask propose "
            "--quality-of for MoEs of the quality of a dense model"
        )
    shared = {variable.name for variable in problem.architecture} - set(ROUTED)
    if problem.objective == "advantage" and shared:
        raise InputError(
            f"advantage: the dense twin shares {', '.join(sorted(shared))} with the MoE; leave it "
            f"out of what varies"
        )
    if problem.objective == "advantage" and problem.kind not in kinds_of(problem.reference):
        if problem.kind == NAMED:
            raise InputError(
                "advantage: over one dense model that is named the best design is that of the "
                "largest throughput; take objective throughput"
            )
        raise InputError("advantage: a model with an encoder has the same-body twin alone")
    if problem.budgets.given and problem.objective == "advantage":
        raise InputError(
            f"max_{next(iter(problem.budgets.given))}: an advantage has no budget, as both sides "
            f"have the same cluster; give the smaller cluster, or another objective"
        )
    if problem.minimize and problem.objective != "advantage":
        raise InputError("minimize is for the advantage; other objectives have one direction")
    if problem.objective == "cost" and not np.isfinite(
        float(problem.service.cluster.accelerator.price_per_hour)
    ):
        raise InputError(
            "objective = cost: no price is known for this accelerator; state price.usd_per_hour "
            "in its file"
        )


def deployment_of(values: Mapping[str, Scalar], layout: Deployment) -> Deployment:
    """The deployment that values of the variables make, all else that of a layout."""
    return eqx.tree_at(
        lambda d: [getattr(d, field) for field in DEPLOYMENT.values()],
        layout,
        [values[name] for name in DEPLOYMENT],
    )
