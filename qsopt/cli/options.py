"""What commands have in common: the flags, and how they become a model, a cluster and a
workload.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import tyro

from qsopt.catalog.accelerators import at_price, load_cluster
from qsopt.catalog.models import load_model
from qsopt.cli.quantities import (
    OptionalDollars,
    OptionalLarge,
    OptionalMilliseconds,
    OptionalTokens,
    Share,
)
from qsopt.cli.values import format_of, part_formats, size
from qsopt.comparison.dense import NAMED, MatchKind, Twin, match_kind
from qsopt.errors import InputError
from qsopt.fitted.expected import efficiency_for
from qsopt.quality.belief import DEFAULT
from qsopt.report.inquiry import Inquiry, training_tokens
from qsopt.spec.formats import number_format
from qsopt.spec.model import Model
from qsopt.spec.rules import NO_SLOTS, LayoutRules, Stack
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload, time_limit

Way = Literal["gathered", "dispatched"]


@dataclass(frozen=True)
class Question:
    """A model, a cluster and a workload."""

    takes_requests: ClassVar[bool] = False
    """Whether the command answers on whole requests too."""
    usual_context: ClassVar[float | None] = None
    """Context where none is given, of commands that have one [tokens]."""
    model: str
    """Catalog name, path of a Hugging Face config.json or of a folder that holds one, or name on
    the Hub such as Qwen/Qwen3-30B-A3B.
    """
    cluster: str
    """Devices and accelerator, such as 8xmi300x; scale-up domains, their devices and accelerator,
    such as 2x8xh200; or path of a cluster's TOML file.
    """
    context: OptionalTokens = None
    """Tokens in the KV cache of a sequence: decode alone, prompts come from elsewhere; 128k is
    131,072 and 1M is 1,048,576.
    """
    prompt: OptionalTokens = None
    """Tokens of a prompt: whole requests instead of decode alone."""
    answer: OptionalTokens = None
    """Tokens of an answer."""
    cached: Share = 0.0
    """Share of the prompt whose keys and values are cached already, such as 0.5 or 50%."""
    ttft_ms: OptionalMilliseconds = None
    """Longest time to the first token allowed, such as 2000 [ms] or 2s."""
    tpot_ms: OptionalMilliseconds = None
    """Longest time per output token allowed, such as 40 [ms], 40ms or 2s."""
    busy: Annotated[Share, tyro.conf.arg(name="load")] = 0.0
    """Share of the time that what reads prompts is busy, for the wait before it; 0 leaves queues
    out.
    """
    acceptance: Share = 1.0
    """Probability that a drafted token is accepted, with tokens-per-step above 1."""
    weight_dtype: str | None = None
    """Format of all weights, tables included, instead of the model's own: bf16, fp8, fp8_block,
    nvfp4, mxfp4, int8, int4, or one of llama.cpp such as q4_k_m; or of some parts, such as
    attention=bf16,ffn=fp8,experts=mxfp4,tables=bf16.
    """
    kv_dtype: str | None = None
    """Format of the KV cache instead of bf16."""
    utilization: Share = 0.9
    """Share of the device memory that may be used, such as 0.9 or 90%; with the efficiencies of a
    software its own knob, of SGLang the static fraction, of TensorRT-LLM the free one.
    """
    tokens_per_step: float = 1.0
    """Tokens that a sequence contributes to a step; more than 1 with speculative decoding."""
    encoder_context: OptionalTokens = None
    """Tokens that the encoder of an encoder-decoder model has read; as many as the context if left
    out.
    """
    law: str = DEFAULT
    """Quality law that gives q, the size of the dense model of the same quality over the active
    parameters; or all.
    """
    law_raw: bool = False
    """Take the bare law's q, not the median of the observed matches that it was calibrated on."""
    q: float | None = None
    """The size factor itself, instead of a law."""
    twin: Twin = "released"
    """Shape of the dense model: that of released dense models, or the MoE's own body."""
    twin_attention: Literal["same", "gqa8"] = "same"
    """Attention of a twin of released shape: the MoE's own, or eight KV heads of 128."""
    dense: str | None = None
    """A dense model that exists, by catalog name or config.json: q becomes a result."""
    dcp: str = "any"
    """Ranks of a tensor group that share the cache of a sequence (decode context parallel): a
    number, 1 for none, or any.
    """
    expert_slots: str = "any"
    """Places for experts on all ranks: none beyond the experts, a number, or any: as many as fill
    every rank.
    """
    stack: Stack = "any"
    """Only layouts that this software can run: vllm, sglang or trtllm."""
    packing: Literal["whole", "loose"] = "whole"
    """Whether groups of ranks are packed into whole scale-up domains, or devices alone count."""
    assume: str = ""
    """Assumptions of the efficiency set to change, such as merged_dispatch=0,shared_links=0."""
    tokens: OptionalLarge = None
    """Training tokens for the laws that use them, such as 15T; those of the catalog if left out.
    """
    price: OptionalDollars = None
    """Rental of a device instead of the catalog's [US dollar/hour]."""
    efficiency: str = "fitted"
    """Efficiency set: ideal; fitted, what servers reach, pooled over accelerators and software;
    trtllm, vllm or sglang as measured on this accelerator; kernels, the operators of fitted without
    what a server adds; or path of a TOML file.
    """
    family: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """Read the config as this family, whatever its model_type."""
    ignore: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Field of the config to pass over; may be repeated."""
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def load(self) -> tuple[Model, Service]:
        """The model, and what it is served on and for.

        Raises:
            InputError: naming what is wrong.
        """
        model, cluster = self._model(), at_price(load_cluster(self.cluster), self.price)
        workload = self._workload()
        if self.encoder_context is not None and model.encoder is None:
            raise InputError(
                "encoder_context: this model has no encoder; give it for an encoder-decoder, or "
                "leave it out"
            )
        efficiency = efficiency_for(self.efficiency, cluster.accelerator, self.assume)
        return model, Service(cluster, workload, efficiency, self._rules())

    def _rules(self) -> LayoutRules:
        return LayoutRules(
            dcp=size("dcp", self.dcp, {"any": None}),
            expert_slots=size("expert_slots", self.expert_slots, {"any": None, "none": NO_SLOTS}),
            stack=self.stack,
            whole_domains=self.packing == "whole",
        )

    def inquiry(self, model: Model, service: Service) -> Inquiry:
        """What is asked of them, by the names on the command line.

        Raises:
            InputError: if q is stated beside a dense model, or there is no such match.
        """
        kind, named = self._match()
        return Inquiry(
            model,
            service,
            law=self.law,
            q=self.q,
            law_raw=self.law_raw,
            kind=kind,
            named=named,
            tokens=self.tokens,
            model_name=self.model,
            efficiency_name=self.efficiency,
            phrase=self.cluster,
        )

    def _match(self) -> tuple[MatchKind, Model | None]:
        """Which dense match, and the model where it is named."""
        if self.dense is None:
            return match_kind(self.twin, self.twin_attention), None
        if self.q is not None:
            raise InputError("q follows from the model given as --dense; leave --q out")
        return NAMED, load_model(self.dense)

    @property
    def training_tokens(self) -> float | None:
        """As given, or as the catalog has them; None if nobody knows.

        Raises:
            InputError: if the number given is not positive.
        """
        return training_tokens(self.tokens, self.model)

    def _model(self) -> Model:
        model = load_model(self.model, self.family, self.ignore)
        if self.weight_dtype is not None:
            for part, form in part_formats(self.weight_dtype).items():
                model = eqx.tree_at(format_of(part), model, number_format(form))
        if self.kv_dtype is not None:
            model = eqx.tree_at(lambda m: m.precision.kv_cache, model, number_format(self.kv_dtype))
        return model

    @property
    def on_requests(self) -> bool:
        """Whether whole requests are asked about."""
        return self.prompt is not None or self.answer is not None

    def asked_in_words(self) -> str:
        """The context, or prompt and answer."""
        if self.on_requests:
            return f"{self.prompt:,.0f} tokens of prompt and {self.answer:,.0f} of answer"
        return f"{self.context:,.0f} tokens of context"

    def _workload(self) -> Workload:
        self._check_kind()
        usual = None if self.on_requests else self.usual_context
        about: dict[str, Any] = {
            "context": usual if self.context is None else self.context,
            "prompt": self.prompt,
            "answer": self.answer,
        }
        return Workload(
            tokens_per_step=self.tokens_per_step,
            acceptance=self.acceptance,
            cached=self.cached,
            load=self.busy,
            ttft_limit=time_limit("ttft_ms", self.ttft_ms),
            tpot_limit=time_limit("tpot_ms", self.tpot_ms),
            utilization=self.utilization,
            encoder_context=self.encoder_context,
            **about,
        )

    def _check_kind(self) -> None:
        """Refuse what the command does not answer, or what has no meaning for what is asked.

        Raises:
            InputError: naming the option and what to give.
        """
        if self.on_requests and not self.takes_requests:
            raise InputError(
                "prompt and answer: this command answers on a decode step; give --context, and ask "
                "serve, evaluate, compare or crossover about requests"
            )
        if self.on_requests:
            return
        if self.context is None and self.usual_context is None:
            both = ", or --prompt and --answer for whole requests" if self.takes_requests else ""
            raise InputError(f"give --context, the tokens in the cache of a sequence{both}")
        given = {"cached": self.cached, "ttft_ms": self.ttft_ms, "load": self.busy}
        for name, value in given.items():
            if value:
                raise InputError(
                    f"{name} is about whole requests: give --prompt and --answer instead of "
                    f"--context"
                )
