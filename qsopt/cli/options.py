"""What commands have in common: the flags, and how they become a model, a cluster and a
workload.
"""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx

from qsopt.catalog.accelerators import accelerator_of, load_cluster
from qsopt.catalog.efficiencies import load_efficiency
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.errors import InputError
from qsopt.fitted.expected import SOFTWARE, Expectation, expectation, software_set
from qsopt.quality.belief import DEFAULT, Belief, belief, given
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import number_format
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT, Workload
from qsopt.units import MILLISECOND

MOST_TOKENS = 1e18
"""No model was trained on more [tokens]."""

Way = Literal["gathered", "dispatched"]


@dataclass(frozen=True)
class Question:
    """A model, a cluster and a workload."""

    model: str
    """Catalog name, or path of a Hugging Face config.json or of a folder that holds one."""
    cluster: str
    """Devices and accelerator, such as 8xmi300x, or path of a cluster's TOML file."""
    context: float
    """Tokens in the KV cache of a sequence."""
    tpot_ms: float | None = None
    """Longest time per output token allowed [ms]."""
    weight_dtype: str | None = None
    """Format of all weights, tables included, instead of the model's own: bf16, fp8, fp8_block,
    nvfp4, mxfp4, int8, int4.
    """
    kv_dtype: str | None = None
    """Format of the KV cache instead of bf16."""
    utilization: float = 0.9
    """Share of the device memory that may be used."""
    tokens_per_step: float = 1.0
    """Tokens that a sequence contributes to a step; more than 1 with speculative decoding."""
    encoder_context: float | None = None
    """Tokens that the encoder of an encoder-decoder model has read; as many as the context if left
    out.
    """
    law: str = "geometric"
    """Quality law that gives q, the size of the dense model of the same quality over the active
    parameters; or all.
    """
    q: float | None = None
    """The size factor itself, instead of a law."""
    tokens: float | None = None
    """Training tokens for the laws that use them; those of the catalog if left out."""
    efficiency: str = "fitted"
    """Efficiency set: ideal; fitted, pooled over accelerators and software; trtllm, vllm or sglang
    as measured on this accelerator; or path of a TOML file.
    """
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def load(self) -> tuple[Model, Service]:
        """The model, and what it is served on and for.

        Raises:
            InputError: naming what is wrong.
        """
        return self._model(), Service(
            load_cluster(self.cluster), self._workload(), self._efficiency()
        )

    def expectation(self, model: Model) -> Expectation | None:
        """How far from measurements the answer is expected to be; None for a bound or a user's own
        set.
        """
        if self.efficiency not in ("fitted", *SOFTWARE):
            return None
        return expectation(
            model,
            accelerator_of(self.cluster),
            self.efficiency if self.efficiency in SOFTWARE else None,
        )

    @property
    def law_used(self) -> str:
        """The law behind q: with all laws side by side, the default one."""
        return "given" if self.q is not None else DEFAULT if self.law == "all" else self.law

    def check_one_law(self) -> None:
        """Refuse all laws side by side where the answer rests on one.

        Raises:
            InputError: if all are asked for and q is not given.
        """
        if self.law == "all" and self.q is None:
            raise InputError(
                "law = all: this command answers by one law; choose one, such as geometric, and "
                "see them side by side with compare or evaluate"
            )

    @property
    def training_tokens(self) -> float | None:
        """As given, or as the catalog has them; None if nobody knows.

        Raises:
            InputError: if the number given is not positive.
        """
        if self.tokens is not None and not 0 < self.tokens < MOST_TOKENS:
            raise InputError(f"tokens = {self.tokens:g}: give the training tokens, such as 14.8e12")
        known = self.model.lower() in model_names()
        return self.tokens or (model_facts(self.model).training_tokens if known else None)

    def believe(self, model: Model) -> Belief:
        """q of the model, by the law asked for or as given."""
        return (
            given(self.q)
            if self.q is not None
            else belief(model, self.law_used, self.training_tokens, raw=True)
        )

    def _model(self) -> Model:
        model = load_model(self.model)
        if self.weight_dtype is not None:
            form = number_format(self.weight_dtype)
            model = eqx.tree_at(_weight_formats, model, (form,) * 4)
        if self.kv_dtype is not None:
            model = eqx.tree_at(lambda m: m.precision.kv_cache, model, number_format(self.kv_dtype))
        return model

    def _efficiency(self) -> Efficiency:
        if self.efficiency in SOFTWARE:
            return software_set(self.efficiency, accelerator_of(self.cluster))
        return load_efficiency(self.efficiency)

    def _tpot_limit(self) -> float:
        if self.tpot_ms is not None and not 0 < self.tpot_ms < float("inf"):
            raise InputError(f"tpot_ms = {self.tpot_ms:g}: give a positive number of milliseconds")
        return NO_LIMIT if self.tpot_ms is None else self.tpot_ms * MILLISECOND

    def _workload(self) -> Workload:
        return Workload(
            context=self.context,
            tokens_per_step=self.tokens_per_step,
            tpot_limit=self._tpot_limit(),
            utilization=self.utilization,
            encoder_context=self.encoder_context,
        )


def _weight_formats(model: Model) -> tuple:
    precision = model.precision
    return precision.attention, precision.ffn, precision.experts, precision.tables
