"""An MoE against the dense model of its quality: one comparison, where it flips, and maps of it."""

from typing import overload

import numpy as np

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyLaw,
    AnyModel,
    answered,
    as_model,
    as_service,
    inquire,
    stated,
)
from qsopt.arrays import Scalar, is_concrete, scalar
from qsopt.catalog.accelerators import accelerator_name, hardware_facts, resized
from qsopt.comparison import twin as twins
from qsopt.comparison.compare import Comparison, settle
from qsopt.comparison.dense import NAMED, Twin, match_kind
from qsopt.comparison.shapes import MatchAttention
from qsopt.errors import InputError
from qsopt.maps import axes as map_axes
from qsopt.maps import crossover
from qsopt.maps import phase_map as maps
from qsopt.maps.axes import Axis
from qsopt.maps.crossover import Crossovers, MatchedPair, SweptInput
from qsopt.maps.phase_map import PhaseMap
from qsopt.precision import in_float64
from qsopt.quality import belief as beliefs
from qsopt.quality.belief import DEFAULT, Belief
from qsopt.record import name_of
from qsopt.report.inquiry import central_q, training_tokens
from qsopt.report.records.comparison import compare_record
from qsopt.report.records.maps import crossover_record, map_record
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.rules import LayoutRules, Stack
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_settle, _belief = in_float64(settle), in_float64(beliefs.belief)
_crossovers, _phase_map = in_float64(crossover.crossovers), in_float64(maps.phase_map)
_axis_between = in_float64(map_axes.axis)


@overload
def compare(
    model: AnyModel,
    service: Service,
    *,
    q: object = ...,
    law: AnyLaw = ...,
    tokens: float | None = ...,
    seed: int = ...,
    twin: Twin = ...,
    twin_attention: MatchAttention = ...,
    dense: AnyModel | None = ...,
    law_raw: bool = ...,
    dcp: int | None = ...,
    expert_slots: int | None = ...,
    stack: Stack = ...,
) -> Comparison: ...


@overload
def compare(
    model: AnyModel,
    cluster: AnyCluster,
    workload: Workload,
    efficiency: AnyEfficiency = ...,
    q: object = ...,
    law: AnyLaw = ...,
    tokens: float | None = ...,
    seed: int = ...,
    twin: Twin = ...,
    twin_attention: MatchAttention = ...,
    dense: AnyModel | None = ...,
    law_raw: bool = ...,
    dcp: int | None = ...,
    expert_slots: int | None = ...,
    stack: Stack = ...,
) -> Comparison: ...


def compare(  # pyright: ignore[reportInconsistentOverload]  (the service stands second too)
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    q: object = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    seed: int = 0,
    *,
    twin: Twin = "released",
    twin_attention: MatchAttention = "same",
    dense: AnyModel | None = None,
    law_raw: bool = False,
    dcp: int | None = None,
    expert_slots: int | None = None,
    stack: Stack = "any",
    service: Service | None = None,
) -> Comparison:
    """Compare an MoE with a dense model of its quality on a cluster, each in its own best legal
    deployment.

    The search is exact: all legal layouts, each with its largest admissible batch. Derivatives with
    respect to q, the workload, hardware and efficiencies are those of both sides' metrics, and of
    the ratio, at their best deployments; penalties and break-even are constants to a derivative.

    Args:
        model: the MoE, or its name; not traced, as its sizes decide which layouts are legal.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context and limits.
        efficiency: a set, or the name of one (see `load_efficiency`).
        q: size factor of the dense twin, instead of a law.
        law: the quality law that gives q, or its name; `all` for the default one, with the answers
            of all laws in `to_dict`.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        seed: of the draws behind the probability that dense wins, in `to_dict`.
        twin: shape of the dense model, `released` or `same-body`; `to_dict` shows all.
        twin_attention: of a twin of released shape, `same` or `gqa8`.
        dense: a dense model that exists, or its name, instead; q becomes a result.
        law_raw: take the bare law's q, not the calibrated median.
        dcp: ranks that share a cache; 1 for none, any if left out.
        expert_slots: places for experts; 0 for as many as experts, any if left out.
        stack: software whose layouts count: any, vllm, sglang or trtllm.
        service: instead of cluster, workload and efficiency, and of these rules, with its own.

    Raises:
        InputError: if a name is unknown, the model has no routed experts or is being traced, or q
            leaves the twin no feed-forward layers.
    """
    served = as_service(cluster, workload, efficiency, service)
    if isinstance(workload, Workload):
        rules = LayoutRules(dcp, expert_slots, stack)
        served = Service(served.cluster, served.workload, served.efficiency, rules)
    kind = match_kind(twin, twin_attention) if dense is None else NAMED
    named = None if dense is None else as_model(dense)
    how = {"law": law, "q": stated(q), "tokens": tokens, "law_raw": law_raw}
    inquiry = inquire(model, cluster, served, **how, kind=kind, named=named)
    _check_sides(inquiry.model)
    size = scalar(central_q(inquiry) if q is None else q)
    result, duel = _settle(inquiry.model, served, size, kind, named)
    return answered(result, compare_record, inquiry=inquiry, duel=duel, seed=seed)


def _check_sides(model: Model) -> None:
    if moe_layers(model) is None:
        raise InputError(
            "the model is dense: a comparison needs a Mixture-of-Experts model; use evaluate for a "
            "dense one"
        )
    if not is_concrete(model):
        raise InputError(
            "the legal layouts depend on the model, which is being traced here: close over the "
            "model, and trace only other inputs"
        )


@in_float64
def dense_twin(model: AnyModel, q: object, *, exact: bool = True) -> Model:
    """The quality-matched dense model of an MoE.

    Args:
        model: the MoE, or its name.
        q: size factor.
        exact: round the width to the nearest multiple of 128, with the derivative of the real
            width; False leaves it real.

    Raises:
        InputError: if q is so small that nothing is left for the feed-forward layers.
    """
    return twins.dense_twin(as_model(model), q, exact=exact)


@in_float64
def geometric_q(model: AnyModel) -> Scalar:
    """q = s^(-1/2): the dense model of the geometric mean of total and active parameters."""
    return twins.geometric_q(as_model(model))


def belief(
    model: AnyModel, law: AnyLaw = DEFAULT, tokens: float | None = None, *, raw: bool = False
) -> Belief:
    """q of an MoE by one law, and how sure it is.

    Args:
        model: the MoE, or its name.
        law: a quality law, or its name.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        raw: take the bare law's value as the centre instead of the calibrated median.

    Raises:
        InputError: if there is no such law, it lacks the training tokens, or it is unphysical for
            this model.
    """
    found = as_model(model)
    return _belief(found, law, training_tokens(tokens, name_of(found)), raw)


# ---- over one input, and over two ----------------------------------------------------------------


@overload
def crossovers(
    model: AnyModel,
    service: Service,
    *,
    over: SweptInput,
    low: float,
    high: float,
    q: float | None = ...,
    law: AnyLaw = ...,
    tokens: float | None = ...,
) -> Crossovers: ...


@overload
def crossovers(
    model: AnyModel,
    cluster: AnyCluster,
    workload: Workload,
    efficiency: AnyEfficiency = ...,
    *,
    over: SweptInput,
    low: float,
    high: float,
    q: float | None = ...,
    law: AnyLaw = ...,
    tokens: float | None = ...,
) -> Crossovers: ...


def crossovers(  # pyright: ignore[reportInconsistentOverload]  (the service stands second too)
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    over: SweptInput,
    low: float,
    high: float,
    q: float | None = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    service: Service | None = None,
) -> Crossovers:
    """All values of one input in a range at which the verdict of a comparison flips.

    Args:
        model: the MoE, or its name.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context and limits.
        efficiency: a set, or the name of one.
        over: `context`, `batch` (sequences in the whole cluster, at most), `devices`, `q` or
            `bandwidth` [byte/s].
        low: lower end of the range.
        high: upper end of the range.
        q: size factor of the dense twin, instead of a law.
        law: the quality law that gives q, or its name.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        service: instead of cluster, workload and efficiency.

    Raises:
        InputError: if a name is unknown, the model is dense, the range is not one, or q leaves the
            twin no feed-forward layers.
    """
    served = as_service(cluster, workload, efficiency, service)
    if over == "devices":
        served = Service(resized(served.cluster, high), served.workload, served.efficiency)
    inquiry = inquire(model, cluster, served, law=law, q=q, tokens=tokens)
    inquiry.check_one_law()
    _check_sides(inquiry.model)
    size = central_q(inquiry)
    found = _crossovers(MatchedPair(inquiry.model, served, size), over, low, high)
    return answered(found, crossover_record, inquiry=inquiry, over=over, q=size)


@overload
def phase_map(
    model: AnyModel,
    service: Service,
    *,
    x: Axis | str = ...,
    y: Axis | str = ...,
    q: float | None = ...,
    law: AnyLaw = ...,
    tokens: float | None = ...,
    batch: float | None = ...,
    interval: bool = ...,
) -> PhaseMap: ...


@overload
def phase_map(
    model: AnyModel,
    cluster: AnyCluster,
    workload: Workload,
    efficiency: AnyEfficiency = ...,
    *,
    x: Axis | str = ...,
    y: Axis | str = ...,
    q: float | None = ...,
    law: AnyLaw = ...,
    tokens: float | None = ...,
    batch: float | None = ...,
    interval: bool = ...,
) -> PhaseMap: ...


def phase_map(  # pyright: ignore[reportInconsistentOverload]  (the service stands second too)
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    x: Axis | str = "context",
    y: Axis | str = "devices",
    q: float | None = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    batch: float | None = None,
    interval: bool = True,
    service: Service | None = None,
) -> PhaseMap:
    """Who wins at every point of two axes, by how much, and how sure that is: both sides at their
    exact optimum everywhere.

    Args:
        model: the MoE, or its name.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context and limits; what an axis moves does not count.
        efficiency: a set, or the name of one.
        x: an axis (see `axis`), or the name of one for its usual range.
        y: another.
        q: size factor of the dense twin, instead of a law.
        law: the quality law that gives q, or its name; asked at every s where sparsity is an axis.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        batch: sequences that may decode at once in the whole cluster; as many as fit if left out.
        interval: whether the twin is deployed at both ends of the interval of q too.
        service: instead of cluster, workload and efficiency.

    Raises:
        InputError: if a name is unknown, the axes are the same, the model is dense, or the law has
            no q or no twin for a point.
    """
    served = as_service(cluster, workload, efficiency, service)
    inquiry = inquire(model, cluster, served, law=law, q=q, tokens=tokens)
    inquiry.check_one_law()
    _check_sides(inquiry.model)
    axes = _axis(x, inquiry.model, served), _axis(y, inquiry.model, served)
    check_links(served.cluster, axes)
    found = _phase_map(inquiry.model, served, *axes, inquiry.believe, batch, interval)
    return answered(found, map_record, inquiry=inquiry, batch=batch)


def axis(
    name: str,
    model: AnyModel,
    service: Service,
    low: float | None = None,
    high: float | None = None,
    points: int = 50,
) -> Axis:
    """An axis of a map, its values evenly spaced in log; whole ones are rounded.

    Args:
        name: context, batch, devices, bandwidth, capacity, scale_up, scale_out, domain, sparsity, q
            or tpot; in tokens, bytes, byte/s and seconds.
        model: the MoE of the map, or its name.
        service: what the map starts from.
        low: first value; with `high`, taken from the model and the cluster if left out.
        high: last value.
        points: how many.

    Raises:
        InputError: if there is no such axis, or the range or the number of points is none.
    """
    return _axis_between(name, as_model(model), service, low, high, points)


def _axis(which: Axis | str, model: Model, service: Service) -> Axis:
    return which if isinstance(which, Axis) else _axis_between(which, model, service)


def check_links(cluster: Cluster, axes: tuple[Axis, ...]) -> None:
    """Refuse points of a map that would need a link speed that nobody states.

    Raises:
        InputError: naming the device, as for a cluster of that size.
    """
    values = {each.name: each.values for each in axes}
    devices = float(np.max(values.get("devices", np.asarray(cluster.devices))))
    domain = float(np.min(values.get("domain", np.asarray(cluster.accelerator.scale_up_devices))))
    name = accelerator_name(cluster.accelerator)
    if devices <= domain or "scale_out" in values or name is None:
        return
    chip = hardware_facts(name)
    if chip.scale_out_bandwidth is None:
        raise InputError(
            f"{chip.name}: no link speed is known between domains, and {devices:g} devices in "
            f"domains of {domain:g}"
            " need one; stay within a domain, or take scale_out as the other axis"
        )
