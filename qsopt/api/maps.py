"""Where a comparison flips along one input, and maps of it over two."""

import numpy as np

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyLaw,
    AnyModel,
    answered,
    as_model,
    as_service,
    inquire_match,
    ruled,
)
from qsopt.catalog.accelerators import accelerator_name, cards_of_a_host, hardware_facts, resized
from qsopt.comparison.dense import Twin
from qsopt.comparison.shapes import MatchAttention
from qsopt.errors import InputError
from qsopt.maps import axes as map_axes
from qsopt.maps import crossover
from qsopt.maps import phase_map as maps
from qsopt.maps.axes import Axis
from qsopt.maps.crossover import Crossovers, SweptInput
from qsopt.maps.pair import MatchedPair
from qsopt.maps.phase_map import PhaseMap
from qsopt.maps.request_map import RequestMap, request_map
from qsopt.precision import in_float64
from qsopt.quality.belief import DEFAULT
from qsopt.report.inquiry import central_q
from qsopt.report.records.maps import crossover_record, map_record, request_map_record
from qsopt.spec.hardware import UNKNOWN_LINK, Cluster
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules, Stack
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_crossovers, _phase_map = in_float64(crossover.crossovers), in_float64(maps.phase_map)
_request_map = in_float64(request_map)
_axis_between = in_float64(map_axes.axis)


def crossovers(
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
    twin: Twin = "released",
    twin_attention: MatchAttention = "same",
    dense: AnyModel | None = None,
    law_raw: bool = False,
    dcp: int | None = None,
    expert_slots: int | None = None,
    stack: Stack = "any",
    service: Service | None = None,
) -> Crossovers:
    """All values of one input in a range at which the verdict of a comparison flips.

    Args:
        model: the MoE, or its name.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context, or prompt and answer, and limits.
        efficiency: a set, or the name of one.
        over: of decode alone `context`, `batch` (sequences in the whole cluster, at most),
            `devices`, `q`, `bandwidth` [byte/s] or `tpot` [s]; of requests `prompt`, `answer`,
            `cached`, `ttft` [s], `tpot`, `load`, `acceptance`, `q` or `bandwidth`.
        low: lower end of the range.
        high: upper end of the range.
        q: size factor of the dense twin, instead of a law.
        law: the quality law that gives q, or its name.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        twin: shape of the dense model, `released` or `same-body`.
        twin_attention: of a twin of released shape, `same` or `gqa8`.
        dense: a dense model that exists, or its name, instead; q becomes a result.
        law_raw: take the bare law's q, not the calibrated median.
        dcp: ranks that share a cache; 1 for none, any if left out.
        expert_slots: places for experts; 0 for as many as experts, any if left out.
        stack: software whose layouts count: any, vllm, sglang or trtllm.
        service: instead of cluster, workload and efficiency, and of these rules, with its own.

    Raises:
        InputError: if a name is unknown, the model is dense, the range is not one, or q leaves the
            twin no feed-forward layers.
    """
    rules = LayoutRules(dcp, expert_slots, stack)
    served = ruled(as_service(cluster, workload, efficiency, service), workload, rules)
    if over == "devices":
        larger = resized(served.cluster, high)
        served = Service(larger, served.workload, served.efficiency, served.rules)
    how = {"law": law, "q": q, "tokens": tokens, "law_raw": law_raw}
    inquiry = inquire_match(model, cluster, served, twin, twin_attention, dense, **how)
    inquiry.check_one_law()
    size = central_q(inquiry)
    pair = MatchedPair(inquiry.model, served, size, inquiry.kind, inquiry.named)
    found = _crossovers(pair, over, low, high)
    return answered(found, crossover_record, inquiry=inquiry, over=over, pair=pair)


def phase_map(
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    x: Axis | str | None = None,
    y: Axis | str | None = None,
    q: float | None = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    batch: float | None = None,
    interval: bool = True,
    twin: Twin = "released",
    twin_attention: MatchAttention = "same",
    dense: AnyModel | None = None,
    law_raw: bool = False,
    dcp: int | None = None,
    expert_slots: int | None = None,
    stack: Stack = "any",
    service: Service | None = None,
) -> PhaseMap | RequestMap:
    """Who wins at every point of two axes, by how much, and how sure that is: both sides at their
    exact optimum everywhere; of decode alone, or, with a prompt and an answer, of whole requests.

    Args:
        model: the MoE, or its name.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context, or prompt and answer, and limits; what an axis moves does not count.
        efficiency: a set, or the name of one.
        x: an axis (see `axis`), or the name of one for its usual range; context, or the prompt.
        y: another; devices, or the answer.
        q: size factor of the dense twin, instead of a law.
        law: the quality law that gives q, or its name; asked at every s where sparsity is an axis.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        batch: of decode alone, sequences that may decode at once in the whole cluster; as many as
            fit if left out.
        interval: of decode alone, whether the twin is deployed at both ends of the interval of q.
        twin: shape of the dense model, `released` or `same-body`.
        twin_attention: of a twin of released shape, `same` or `gqa8`.
        dense: a dense model that exists, or its name, instead; q becomes a result.
        law_raw: take the bare law's q, not the calibrated median.
        dcp: ranks that share a cache; 1 for none, any if left out.
        expert_slots: places for experts; 0 for as many as experts, any if left out.
        stack: software whose layouts count: any, vllm, sglang or trtllm.
        service: instead of cluster, workload and efficiency, and of these rules, with its own.

    Raises:
        InputError: if a name is unknown, the axes are the same, the model is dense, or the law has
            no q or no twin for a point.
    """
    rules = LayoutRules(dcp, expert_slots, stack)
    served = ruled(as_service(cluster, workload, efficiency, service), workload, rules)
    how = {"law": law, "q": q, "tokens": tokens, "law_raw": law_raw}
    inquiry = inquire_match(model, cluster, served, twin, twin_attention, dense, **how)
    inquiry.check_one_law()
    usual = ("context", "devices") if served.workload.prompt is None else ("prompt", "answer")
    axes = (
        _axis(x or usual[0], inquiry.model, served),
        _axis(y or usual[1], inquiry.model, served),
    )
    check_links(served.cluster, axes)
    match = inquiry.kind, inquiry.named
    if served.workload.prompt is not None:
        pair = MatchedPair(inquiry.model, served, central_q(inquiry), *match)
        return answered(_request_map(pair, *axes), request_map_record, inquiry=inquiry)
    found = _phase_map(inquiry.model, served, *axes, inquiry.believe, batch, interval, *match)
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
            or tpot; of requests prompt, answer, cached, ttft, tpot, load, acceptance, bandwidth,
            capacity, scale_up or scale_out; in tokens, bytes, byte/s and seconds.
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
    cards = 0 if name is None else cards_of_a_host(hardware_facts(name))
    known = float(np.min(cluster.accelerator.scale_out_bandwidth)) > UNKNOWN_LINK
    known = known and not 0 < cards < devices
    if devices > domain and "scale_out" not in values and not known:
        raise InputError(
            f"no link speed is known between domains, and {devices:g} devices in "
            f"domains of {domain:g}"
            " need one; stay within a domain, or take scale_out as the other axis"
        )
