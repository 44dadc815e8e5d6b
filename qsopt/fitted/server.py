"""What a server adds to the operators of its steps: constants fitted to end-to-end results, of one
software or the mean of all.

    TPOT = scale step + (time for each layer) layers + interference B prefill/osl
    TTFT = prefill + (time for each layer) layers + late steps + burst (B - 1) prefill

with times of a layer that are one for all software. A scale is that of a software, times a factor
for the bits of the weights, drawn to 1 as far as few models speak for it. `burst` is the share of
the other requests at a concurrency B whose prompts come before: clients that begin at once, and
that ask again when they are answered. `late` are steps after which a first token is sent: load
tests of SGLang and TensorRT-LLM are run with tokens sent every 30 and 10 steps (SemiAnalysis,
InferenceX, benchmarks/dsr1_fp8_b200.sh, `--stream-interval 30`, and dsr1_fp8_b200_trt.sh,
`stream_interval: 10`), and the fit finds as many. Both belong to such a load and not to a server,
so they are no part of a set.

A set that is pooled over software takes the mean; `ideal` and a user's own set keep what they say
themselves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from qsopt.files import read_toml, understood
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import WRITTEN, digits, inline, shipped
from qsopt.spec.efficiency import Efficiency, Server
from qsopt.spec.formats import FORMATS, Format, number_format
from qsopt.units import MICROSECOND

POOLED = "fitted"
"""The set that is pooled over software."""

BITS = (4, 8, 16)
"""Widths of weights that are told apart [bit]."""

PREFILL_OVERLAP = 0.0
"""Share of messages that servers hide while prompts are read, unless they are told to read them in
two halves of a batch by turns: `--enable-two-batch-overlap` of SGLang and `--enable-dbo` of vLLM
are off by default, and scripts that launched the measured servers have neither (SemiAnalysis,
InferenceX, benchmarks/dsr1_fp8_b200.sh, dsr1_fp8_b200_trt.sh, single_node/minimaxm2.5_fp8_b200.sh).
`kernels` keep the share of DeepSeek-V3's deployment, which reads so; `--assume prefill_overlap=0.9`
gives it to any set.
"""


@dataclass(frozen=True)
class ServerFit:
    """The fitted constants of serving, and the errors that they leave in times per output token."""

    scale: dict[str, float]
    """Time of a step over that of its operators, by software."""
    by_bits: dict[str, tuple[float, ...]]
    """The same for weights of `BITS`, in units of `scale`, by software."""
    host_layer: float
    """Added to every step for each layer [s]."""
    interference: float
    """Share of the reading of prompts for which decoding waits."""
    first_layer: float
    """Added to the time to first token for each layer [s]."""
    late: dict[str, float]
    """Steps after which a load test sees a first token, by software."""
    burst: float
    """Share of the other requests whose prompts come before, where a concurrency is kept up."""
    other_shapes: Errors
    """Of models that were left out of the fit."""

    def server(self, software: str) -> Server:
        """The constants of one software; the mean of all for any other name."""
        places = [width(number_format(name)) for name in FORMATS]
        return Server(
            scale=of_software(self.scale, software),
            host_layer=self.host_layer,
            interference=self.interference,
            first_layer=self.first_layer,
            by_format=self.factors(software)[places],
        )

    def factors(self, software: str) -> Float[np.ndarray, " widths"]:
        """`by_bits` of one software; for any other name those of the mean of all scales."""
        scales = {name: scale * np.array(self.by_bits[name]) for name, scale in self.scale.items()}
        return of_software(scales, software) / of_software(self.scale, software)


def of_software(values: Mapping[str, Any], software: str) -> Any:
    """The value, or values, of one software; the mean of all for any other name."""
    return values[software] if software in values else sum(values.values()) / len(values)


def width(form: Format) -> int:
    """The place in `BITS` of the width nearest to a format's."""
    return min(range(len(BITS)), key=lambda place: abs(BITS[place] - 8.0 * float(form.bytes)))


def read_by_bits(table: Mapping[str, Any]) -> tuple[float, ...]:
    """Factors for `BITS` as a file lists them."""
    return tuple(float(table["by_bits"][str(bits)]) for bits in BITS)


def by_bits_table(factors: Iterable[float]) -> Any:
    """Factors for `BITS` as `read_by_bits` reads them."""
    return inline({str(bits): digits(float(one)) for bits, one in zip(BITS, factors, strict=True)})


def load_server_fit(path: Path) -> ServerFit:
    """Read the constants as `qsopt calibrate` writes them.

    Raises:
        InputError: if the file cannot be read.
    """
    table = read_toml(path, WRITTEN)
    with understood(path, WRITTEN):
        backends = table["backend"]
        return ServerFit(
            {name: float(one["scale"]) for name, one in backends.items()},
            {name: read_by_bits(one) for name, one in backends.items()},
            float(table["host_layer_us"]) * MICROSECOND,
            float(table["interference"]),
            float(table["first_layer_us"]) * MICROSECOND,
            {name: float(one["late_steps"]) for name, one in backends.items()},
            float(table["burst"]),
            Errors(*table["other_shapes"]),
        )


@cache
def server_fit() -> ServerFit:
    """The constants that ship."""
    return load_server_fit(shipped("serving"))


def known_server(name: str | None) -> bool:
    """Whether a server of that efficiency set was measured."""
    return name == POOLED or name in server_fit().scale


def by_default(kernels: Efficiency) -> Efficiency:
    """Kernels in a server that was launched without further options (see `PREFILL_OVERLAP`)."""
    return eqx.tree_at(lambda e: e.prefill_overlap, kernels, np.asarray(PREFILL_OVERLAP))
