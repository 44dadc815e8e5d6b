"""`qsopt propose`: what to build on a cluster, for a quality, traffic and limits."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qsopt.api.proposals import BOTH
from qsopt.catalog.models import load_model
from qsopt.cli.progress import telling
from qsopt.cli.quantities import (
    OptionalDollars,
    OptionalLarge,
    OptionalMilliseconds,
    OptionalTokens,
    Share,
)
from qsopt.cli.values import size
from qsopt.errors import InputError
from qsopt.files import check_folder as check_out
from qsopt.proposals.answers import FAMILIES, ProposalQuestion
from qsopt.proposals.changes import changes, family_of
from qsopt.proposals.goals import Wanted
from qsopt.proposals.propose import propose
from qsopt.quality.belief import DEFAULT
from qsopt.report.inquiry import ALL, training_tokens
from qsopt.report.proposal_folder import check_folder, earlier, write_folder
from qsopt.report.proposal_inputs import inquiry_of, service_of, shown_model
from qsopt.report.proposals_text import show_changes, show_proposals
from qsopt.report.records import answer_json
from qsopt.report.records.proposals import changes_record, propose_record, rows_from
from qsopt.spec.rules import NO_SLOTS, Stack


@dataclass(frozen=True)
class Propose:
    """What to build: architectures, MoE and dense, of a wanted quality that serve most on a
    cluster, each with its deployment, what all quality laws say of it, and how sure that is.

    Give --quality-of, --loss or --budget-flops. With --out every design is a folder with a
    config.json that Hugging Face classes read. Attention is that of the reference: no law prices
    it.
    """

    cluster: str | None = None
    """Devices and accelerator, such as 64xh100; or path of a cluster's TOML file."""
    quality_of: str | None = None
    """The model whose quality is wanted: catalog name, config.json, or name on the Hub."""
    improve: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """A model that exists, to be changed: single changes and pairs of them at equal quality, ranked
    by what they gain, with what the gradient predicts.
    """
    loss: float | None = None
    """A pre-training loss instead [nat], by the fit of Besiroglu et al. for dense models; at the
    tokens given, or at those of the least compute.
    """
    budget_flops: OptionalLarge = None
    """Training compute instead, such as 1e25: as good as the best dense model that it buys."""
    like: str | None = None
    """Model whose attention, vocabulary and formats designs have, where no quality is a model's."""
    context: OptionalTokens = None
    """Tokens in the KV cache of a sequence: decode alone."""
    prompt: OptionalTokens = None
    """Tokens of a prompt."""
    answer: OptionalTokens = None
    """Tokens of an answer."""
    cached: Share = 0.0
    """Share of the prompt that is cached already."""
    ttft_ms: OptionalMilliseconds = None
    """Longest time to the first token allowed."""
    tpot_ms: OptionalMilliseconds = None
    """Longest time per output token allowed."""
    load: Share = 0.0
    """Share of the time that what reads prompts is busy; 0 leaves queues out."""
    family: Literal["moe", "dense", "both"] = "both"
    """Which designs."""
    law: str = DEFAULT
    """Quality law that designs are made by; all that apply are asked about them in any case."""
    law_raw: bool = False
    """Take the bare law, not the one moved by the observed matches."""
    tokens: OptionalLarge = None
    """Training tokens, such as 15T; those of the catalog if left out."""
    free_attention: bool = False
    """Let KV heads, or the rank of latents, move too."""
    bounds: str = ""
    """Other bounds than those of released models, with commas, such as
    experts=8:64,top_k=1:4,hidden_over_layers=60:120.
    """
    seed: int = 0
    """Of the search and of the draws."""
    utilization: Share = 0.9
    """Share of the device memory that may be used."""
    efficiency: str = "fitted"
    """Efficiency set; see evaluate."""
    assume: str = ""
    """Assumptions of the efficiency set to change."""
    stack: Stack = "any"
    """Only layouts that this software can run."""
    dcp: str = "any"
    """Ranks of a tensor group that share the cache of a sequence."""
    expert_slots: str = "any"
    """Places for experts on all ranks."""
    packing: Literal["whole", "loose"] = "whole"
    """Whether groups of ranks are packed into whole scale-up domains."""
    price: OptionalDollars = None
    """Rental of a device instead of the catalog's [US dollar/hour]."""
    out: Path | None = None
    """Write each design to a folder here, beside pareto.png, pareto.csv and propose.json; what a
    run of the same question has written is gone on with.
    """
    check: Path | None = None
    """Evaluate the designs of such a folder again, and say whether the bytes are the same."""
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def run(self) -> None:
        """Search, write and print."""
        if self.check is not None:
            self._check(self.check)
            return
        if self.improve is not None:
            self._improve()
            return
        if self.out is not None:
            check_out(self.out)
        inputs, question = self._inputs(), self._question()
        known = None if self.out is None else earlier(self.out, inputs)
        if known is not None and known["complete"]:
            record = known
        else:
            record = self._answer(inputs, question, known)
        if self.json:
            print(answer_json(record))
        else:
            show_proposals(record, self._title())

    def _answer(
        self, inputs: dict[str, Any], question: ProposalQuestion, known: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The record of a search, written where a folder is given."""
        found = propose(_going_on(question, known), telling())
        inquiry = inquiry_of(inputs, shown_model(question), question.name)
        record = propose_record(found, inquiry, inputs)
        if self.out is not None:
            write_folder(found, record, self._title(), self.out)
        return record

    def _improve(self) -> None:
        """Rank changes of a model and print."""
        if self.out is not None:
            raise InputError("out is for designs: leave it out with --from, or give --quality-of")
        asked = replace(self, quality_of=self.improve, improve=None)
        inputs, question = asked._inputs(), asked._question()
        question = replace(question, families=(family_of(question.reference),))
        found = changes(question, telling())
        inquiry = inquiry_of(inputs, shown_model(question), question.name)
        record = changes_record(found, inquiry, inputs)
        if self.json:
            print(answer_json(record))
        else:
            show_changes(record, f"changes of {self.improve} on {self.cluster} at equal quality")

    def _check(self, folder: Path) -> None:
        same = check_folder(folder)
        if self.json:
            print(answer_json({"same": same}))
        else:
            for name, kept in same.items():
                print(f"{name}: {'the same bytes' if kept else 'other bytes'}")

    def _title(self) -> str:
        if self.quality_of is not None:
            quality = f"as good as {self.quality_of}"
        elif self.loss is not None:
            quality = f"of loss {self.loss:g}"
        else:
            quality = f"of a training budget of {self.budget_flops:g} FLOP"
        if self.prompt is None:
            return f"designs {quality} on {self.cluster}, {self.context:,.0f} tokens of context"
        return (
            f"designs {quality} on {self.cluster}, {self.prompt:,.0f} tokens of prompt and "
            f"{self.answer:,.0f} of answer"
        )

    def _inputs(self) -> dict[str, Any]:
        """The question as it is recorded.

        Raises:
            InputError: naming what is missing or wrong.
        """
        self._check_kind()
        named = {name: getattr(self, name) for name in _RECORDED}
        named["dcp"] = size("dcp", self.dcp, {"any": None})
        words = {"any": None, "none": NO_SLOTS}
        named["expert_slots"] = size("expert_slots", self.expert_slots, words)
        named["whole_domains"] = self.packing == "whole"
        return named

    def _check_kind(self) -> None:
        if self.cluster is None:
            raise InputError("give --cluster, what designs are served on, such as 64xh100")
        goals = (self.quality_of, self.loss, self.budget_flops)
        if sum(each is not None for each in goals) != 1:
            raise InputError("give one of --quality-of, --loss and --budget-flops")
        if self.context is None and (self.prompt is None or self.answer is None):
            raise InputError("give --prompt and --answer, or --context for decode alone")
        if self.context is not None and (self.cached or self.ttft_ms or self.load):
            raise InputError("cached, ttft_ms and load are about requests: give prompt and answer")
        if self.like is not None and self.quality_of is not None:
            raise InputError("like is for --loss and --budget-flops: leave it out")

    def _question(self) -> ProposalQuestion:
        model = None if self.quality_of is None else load_model(self.quality_of)
        tokens = training_tokens(self.tokens, self.quality_of)
        return ProposalQuestion(
            service=service_of(self._inputs()),
            wanted=Wanted(model, tokens, self.loss, self.budget_flops, self.law_raw),
            families=FAMILIES if self.family == BOTH else (self.family,),
            law=DEFAULT if self.law == ALL else self.law,
            like=None if self.like is None else load_model(self.like),
            free_attention=self.free_attention,
            bounds=_spans(self.bounds),
            decode_alone=self.prompt is None,
            seed=self.seed,
            name=self.quality_of or "reference",
        )


_RECORDED = (
    "quality_of",
    "loss",
    "budget_flops",
    "like",
    "cluster",
    "context",
    "prompt",
    "answer",
    "cached",
    "ttft_ms",
    "tpot_ms",
    "load",
    "family",
    "law",
    "law_raw",
    "tokens",
    "free_attention",
    "bounds",
    "seed",
    "utilization",
    "efficiency",
    "assume",
    "stack",
    "price",
)
"""Options that a record holds as they are."""


def _spans(text: str) -> tuple[tuple[str, tuple[float, float]], ...]:
    """Bounds by name.

    Raises:
        InputError: if the text has another form.
    """
    found = []
    for each in filter(None, (word.strip() for word in text.split(","))):
        name, _, span = each.partition("=")
        low, _, high = span.partition(":")
        try:
            found.append((name.strip().replace("-", "_"), (float(low), float(high or low))))
        except ValueError:
            raise InputError(
                f"bounds = {each[:40]}: give name=low:high with commas, such as experts=8:64"
            ) from None
    return tuple(found)


def _going_on(question: ProposalQuestion, known: dict[str, Any] | None) -> ProposalQuestion:
    """The question, beginning at the designs of a run that was interrupted."""
    if known is None:
        return question
    return replace(question, starts=rows_from(known))
