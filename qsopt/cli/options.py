"""What commands have in common: the flags, and how they become a model, a cluster and a
workload.
"""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx

from qsopt.catalog.accelerators import accelerator_name, load_cluster
from qsopt.catalog.models import load_model
from qsopt.errors import InputError
from qsopt.fitted.expected import SOFTWARE, named_efficiency
from qsopt.report.inquiry import Inquiry, training_tokens
from qsopt.spec.formats import number_format
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT, Workload
from qsopt.units import MILLISECOND

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
        model, cluster, workload = self._model(), load_cluster(self.cluster), self._workload()
        chip = None if self.efficiency not in SOFTWARE else accelerator_name(cluster.accelerator)
        return model, Service(cluster, workload, named_efficiency(self.efficiency, chip))

    def inquiry(self, model: Model, service: Service) -> Inquiry:
        """What is asked of them, by the names on the command line."""
        return Inquiry(
            model,
            service,
            law=self.law,
            q=self.q,
            tokens=self.tokens,
            model_name=self.model,
            efficiency_name=self.efficiency,
            phrase=self.cluster,
        )

    @property
    def training_tokens(self) -> float | None:
        """As given, or as the catalog has them; None if nobody knows.

        Raises:
            InputError: if the number given is not positive.
        """
        return training_tokens(self.tokens, self.model)

    def _model(self) -> Model:
        model = load_model(self.model)
        if self.weight_dtype is not None:
            form = number_format(self.weight_dtype)
            model = eqx.tree_at(_weight_formats, model, (form,) * 4)
        if self.kv_dtype is not None:
            model = eqx.tree_at(lambda m: m.precision.kv_cache, model, number_format(self.kv_dtype))
        return model

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
