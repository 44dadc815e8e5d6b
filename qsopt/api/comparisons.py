"""An MoE against the dense model of its quality, and what is believed of its size."""

from functools import partial

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
    stated,
)
from qsopt.arrays import Scalar, is_concrete, scalar
from qsopt.comparison import twin as twins
from qsopt.comparison.compare import Comparison, settle
from qsopt.comparison.dense import Twin
from qsopt.comparison.requests import RequestComparison, settle_requests
from qsopt.comparison.shapes import MatchAttention
from qsopt.errors import InputError, check_seed
from qsopt.precision import in_float64
from qsopt.quality import belief as beliefs
from qsopt.quality import registry as laws
from qsopt.quality.belief import DEFAULT, Belief
from qsopt.record import name_of
from qsopt.report.inquiry import Inquiry, central_q, training_tokens
from qsopt.report.records.comparison import compare_record
from qsopt.report.records.requests import compare_requests_record
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules, Stack
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_settle, _belief = in_float64(settle), in_float64(beliefs.belief)
_settle_requests = in_float64(settle_requests)


def compare(
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
) -> Comparison | RequestComparison:
    """Compare an MoE with a dense model of its quality on a cluster, each in its own best legal
    deployment; or, with a prompt and an answer, each in its own best way of serving requests.

    The search is exact: all legal layouts, each with its largest admissible batch. Derivatives with
    respect to q, the workload, hardware and efficiencies are those of both sides' metrics, and of
    the ratio, at their best deployments; penalties and break-even are constants to a derivative.
    On requests the answer is for concrete numbers, with the times of a server (see `serve`).

    Args:
        model: the MoE, or its name; not traced, as its sizes decide which layouts are legal.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context, or prompt and answer, and limits.
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

    Returns:
        `Comparison`, or `RequestComparison` where the workload has a prompt and an answer.

    Raises:
        InputError: if a name is unknown, the model has no routed experts or is being traced, q
            leaves the twin no feed-forward layers, or requests are asked about while a number is
            being traced.
    """
    check_seed(seed)
    rules = LayoutRules(dcp, expert_slots, stack)
    served = ruled(as_service(cluster, workload, efficiency, service), workload, rules)
    how = {"law": law, "q": stated(q), "tokens": tokens, "law_raw": law_raw}
    inquiry = inquire_match(model, cluster, served, twin, twin_attention, dense, **how)
    settled, record = _settle, partial(compare_record, seed=seed)
    if served.workload.prompt is not None:
        _check_requests(inquiry, q)
        settled, record = _settle_requests, compare_requests_record
    size = central_q(inquiry) if q is None else q
    result, duel = settled(inquiry.model, served, scalar(size), inquiry.kind, inquiry.named)
    return answered(result, record, inquiry=inquiry, duel=duel)


def _check_requests(inquiry: Inquiry, q: object) -> None:
    """Refuse what a comparison on requests cannot answer."""
    if not is_concrete((inquiry.service, q)):
        raise InputError(
            "a comparison on requests searches over ways of serving, so it cannot be traced: call "
            "it outside of jit, grad and vmap, or take derivatives of serve with a plan"
        )
    if inquiry.all_laws:
        raise InputError(
            "law = all: a comparison on requests rests on one law; give one, such as power"
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
    return _belief(found, laws.law(law), training_tokens(tokens, name_of(found)), raw)
