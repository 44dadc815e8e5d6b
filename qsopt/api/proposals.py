"""What to build instead, for a cluster, traffic, limits and a quality."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyLaw,
    AnyModel,
    answered,
    as_model,
    as_service,
)
from qsopt.errors import InputError
from qsopt.proposals.answers import FAMILIES, Answer, ProposalQuestion
from qsopt.proposals.goals import Wanted
from qsopt.proposals.propose import propose as search
from qsopt.proposals.requests import as_requests
from qsopt.quality.belief import DEFAULT
from qsopt.report.inquiry import ALL, Inquiry, training_tokens
from qsopt.report.proposal_folder import write_folder
from qsopt.report.proposal_inputs import shown_model
from qsopt.report.records.proposals import propose_record
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

BOTH = "both"
"""MoE and dense."""


def propose(
    quality_of: AnyModel | None = None,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    loss: float | None = None,
    budget_flops: float | None = None,
    like: AnyModel | None = None,
    family: str = BOTH,
    law: AnyLaw = DEFAULT,
    law_raw: bool = False,
    tokens: float | None = None,
    free_attention: bool = False,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
    out: Path | str | None = None,
) -> Answer:
    """Architectures of a wanted quality, MoE and dense, that serve most on a cluster, with their
    deployments, what all quality laws say of them, and how sure that is.

    Args:
        quality_of: the model whose quality is wanted, or its name.
        cluster: on what designs are served: a cluster, a phrase such as `64xh100`, or a service.
        workload: prompt, answer and limits, or a context for decode alone.
        efficiency: a set, or the name of one.
        loss: a pre-training loss instead of a model's quality [nat].
        budget_flops: training compute instead: the quality of the best dense model that it buys.
        like: whose attention, vocabulary and formats designs have, where no quality is a model's.
        family: `moe`, `dense` or `both`.
        law: the quality law that designs are made by, or its name; `all` for the default one. All
            that apply are asked about the designs in any case.
        law_raw: take the bare law, not the one moved by the observed matches.
        tokens: training tokens; those of the catalog if left out.
        free_attention: let KV heads, or the rank of latents, move too, though no law prices them.
        bounds: of sizes and ratios of architectures, instead of what released models keep to.
        seed: of the search and of the draws.
        progress: told what is being done.
        out: folder that configs, records and plots are written to.

    Returns:
        `Answer`; its `to_dict` is what `qsopt propose --json` prints.

    Raises:
        InputError: if a name is unknown or the question has no meaning.
    """
    asked = [each is not None for each in (quality_of, loss, budget_flops)]
    if sum(asked) != 1:
        raise InputError("say which quality is wanted: one of quality_of, loss and budget_flops")
    service = as_service(cluster, workload, efficiency)
    model = None if quality_of is None else as_model(quality_of)
    name = None if quality_of is None else Inquiry(model, service).model_name  # pyright: ignore[reportArgumentType]
    known = training_tokens(tokens, name)
    question = ProposalQuestion(
        service=requests_of(service),
        wanted=Wanted(model, known, loss, budget_flops, law_raw),
        families=FAMILIES if family == BOTH else (family,),
        law=DEFAULT if law == ALL else law,
        like=None if like is None else as_model(like),
        free_attention=free_attention,
        bounds=tuple((bounds or {}).items()),
        decode_alone=service.workload.prompt is None,
        seed=seed,
        name=name or "reference",
    )
    answer = search(question, progress)
    inquiry = _inquiry(question, cluster)
    inputs = {"seed": seed, "cluster": None}
    if out is not None:
        whole = propose_record(answer, inquiry, _unnamed(inputs, service))
        write_folder(answer, whole, f"Proposals on {inquiry.cluster_name}", Path(out))
    return answered(answer, propose_record, inquiry=inquiry, inputs=_unnamed(inputs, service))


def requests_of(service: Service) -> Service:
    """The service with decode alone as a workload of requests."""
    return eqx.tree_at(
        lambda s: s.workload, service, as_requests(service.workload), is_leaf=_is_workload
    )


def _is_workload(node: object) -> bool:
    return isinstance(node, Workload)


def _inquiry(question: ProposalQuestion, cluster: object) -> Inquiry:
    """What is asked, with the names that it was asked with."""
    phrase = str(cluster) if isinstance(cluster, str | Path) else None
    return Inquiry(
        shown_model(question),
        question.service,
        law=question.law,
        tokens=question.wanted.tokens,
        model_name=question.name,
        phrase=phrase,
    )


def _unnamed(inputs: dict[str, Any], service: Service) -> dict[str, Any]:
    """Inputs of a question that was asked with records: nothing can be asked again by name."""
    workload = service.workload
    lengths = {
        name: None if value is None else float(value)
        for name, value in (
            ("context", workload.decode_context),
            ("prompt", workload.prompt),
            ("answer", workload.answer),
        )
    }
    return {**inputs, **lengths}
