"""From what a user writes to records: models, clusters, efficiency sets and laws by name, by file
or as records, alike in every public function and on the command line.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from qsopt.arrays import is_concrete, scalar
from qsopt.catalog.accelerators import accelerator_name, load_cluster
from qsopt.catalog.models import load_model
from qsopt.comparison.dense import NAMED, match_kind
from qsopt.errors import InputError
from qsopt.fitted.expected import SOFTWARE, named_efficiency
from qsopt.quality.quality_law import QualityLaw
from qsopt.record import answering
from qsopt.report.inquiry import Inquiry
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.hardware import Accelerator, Cluster
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

AnyModel: TypeAlias = Model | str | Path
"""A model, the name of one in the catalog, or the path of a `config.json`."""
AnyCluster: TypeAlias = Cluster | str | Path
"""A cluster, a phrase such as `8xh100`, or the path of a TOML file."""
AnyEfficiency: TypeAlias = Efficiency | str | Path
"""A set, its name, or the path of a TOML file."""
AnyLaw: TypeAlias = QualityLaw | str
"""A quality law or its name."""

T = TypeVar("T")


def as_model(which: AnyModel) -> Model:
    """A model as it is, or by name or path."""
    return which if isinstance(which, Model) else load_model(which)


def as_cluster(which: AnyCluster) -> Cluster:
    """A cluster as it is, or by phrase or path."""
    return which if isinstance(which, Cluster) else load_cluster(which)


def load_efficiency(
    which: AnyEfficiency, accelerator: Accelerator | AnyCluster | None = None
) -> Efficiency:
    """An efficiency set by name, or from a TOML file of the form of those in `configs/efficiency`.

    Args:
        which: `ideal`, the bound; `kernels`, the operators alone; `fitted`, what servers reach; the
            path of a file; or `trtllm`, `vllm` or `sglang`, as measured on an accelerator. A set
            stays as it is.
        accelerator: for a software, what it runs on: an accelerator or a cluster, or the name of
            one (`h100`, `8xh100`). One that is not in the catalog takes values pooled over others.

    Raises:
        InputError: if the name is unknown, a value of the file is wrong, or a software is named
            without its accelerator, or with one that is being traced.
    """
    if isinstance(which, Efficiency):
        return which
    if str(which) not in SOFTWARE:
        return named_efficiency(which, None)
    if accelerator is None:
        raise InputError(
            f"efficiency set '{which}' depends on the accelerator: name it, as in "
            f"load_efficiency('{which}', 'h100')"
        )
    return named_efficiency(which, accelerator_name(_accelerator(accelerator)))


def _accelerator(which: Accelerator | AnyCluster) -> Accelerator:
    return which if isinstance(which, Accelerator) else as_cluster(which).accelerator


def as_service(
    cluster: AnyCluster | Service | None,
    workload: Workload | None,
    efficiency: AnyEfficiency,
    service: Service | None = None,
) -> Service:
    """The one record of what a model is served on and for, given whole or in its parts.

    Raises:
        InputError: if neither is given, or both are.
    """
    whole = cluster if isinstance(cluster, Service) else service
    if whole is not None:
        if workload is not None or not (cluster is None or cluster is whole):
            raise InputError("give a service, or a cluster and a workload, not both")
        return whole
    if cluster is None or isinstance(cluster, Service) or not isinstance(workload, Workload):
        raise InputError(
            "give what the model is served on and for: a service, or a cluster and a workload"
        )
    found = as_cluster(cluster)
    return Service(found, workload, load_efficiency(efficiency, found))


def ruled(service: Service, workload: Workload | None, rules: LayoutRules) -> Service:
    """A service given in parts, with the rules; one given whole keeps its own."""
    if not isinstance(workload, Workload):
        return service
    return Service(service.cluster, service.workload, service.efficiency, rules)


def as_design(
    cluster: AnyCluster | Service | None,
    workload: Workload | Deployment | None,
    deployment: Deployment | None,
    efficiency: AnyEfficiency,
    service: Service | None,
) -> tuple[Service, Deployment]:
    """A service and a deployment on it, which may follow the service or the workload.

    Raises:
        InputError: if either is missing.
    """
    if isinstance(workload, Deployment):
        workload, deployment = None, workload
    if deployment is None:
        raise InputError("give a deployment, such as Deployment(tensor=8, batch=64)")
    return as_service(cluster, workload, efficiency, service), deployment


def inquire(model: AnyModel, cluster: object, service: Service, **how: Any) -> Inquiry:
    """What is asked, with the names that it was asked with.

    Args:
        model: as it was given.
        cluster: as it was given.
        service: what it is served on and for.
        **how: other fields of `Inquiry`.
    """
    found = as_model(model)
    return Inquiry(
        found,
        service,
        model_name=None if isinstance(model, Model) else str(model),
        phrase=str(cluster) if isinstance(cluster, str | Path) else None,
        **how,
    )


def inquire_match(
    model: AnyModel,
    cluster: AnyCluster | Service | None,
    service: Service,
    twin: str,
    attention: str,
    dense: AnyModel | None,
    **how: Any,
) -> Inquiry:
    """What is asked of an MoE and a dense match of it.

    Args:
        model: the MoE, as it was given.
        cluster: as it was given.
        service: what both are served on and for.
        twin: shape of the match.
        attention: of a match of released shape.
        dense: the match itself, where it is a model that exists.
        **how: other fields of `Inquiry`.

    Raises:
        InputError: if the model has no routed experts or is being traced, or there is no such
            match.
    """
    kind, named = (match_kind(twin, attention), None) if dense is None else (NAMED, as_model(dense))
    inquiry = inquire(model, cluster, service, **how, kind=kind, named=named)
    purpose = "a comparison needs a Mixture-of-Experts model; use evaluate for a dense one"
    routed_layers(inquiry.model, purpose)
    if not is_concrete(inquiry.model):
        raise InputError(
            "the legal layouts depend on the model, which is being traced here: close over the "
            "model, and trace only other inputs"
        )
    return inquiry


def stated(q: object) -> float | None:
    """A size factor as a number; None where none is stated or it is being traced."""
    return float(scalar(q)) if q is not None and is_concrete(q) else None


def answered(result: T, record: Callable[..., dict[str, Any]], **asked: Any) -> T:
    """The result, with its question beside it where nothing of both is traced.

    Args:
        result: what is answered.
        record: makes a plain record of the result and of what was asked.
        **asked: further arguments of `record`.
    """
    known = is_concrete((result, asked)) and is_concrete(_parts(asked.get("inquiry")))
    return answering(result, partial(record, **asked)) if known else result


def _parts(inquiry: Inquiry | None) -> object:
    return None if inquiry is None else (inquiry.model, inquiry.service)
