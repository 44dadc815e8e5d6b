"""What a server adds to the operators of its steps: constants fitted to end-to-end results, of one
software or the mean of all.

    TPOT = scale step + (time for each layer) layers + interference B prefill/osl
    TTFT = prefill + (time for each layer) layers + late steps + burst (B - 1) prefill

with times of a layer that are one for all software. `burst` is the share of the other requests at a
concurrency B whose prompts come before: clients that begin at once, and that ask again when they
are answered. `late` are steps after which a first token is sent: load tests of SGLang and
TensorRT-LLM are run with tokens sent every 30 and 10 steps (SemiAnalysis, InferenceX,
benchmarks/dsr1_fp8_b200.sh, `--stream-interval 30`, and dsr1_fp8_b200_trt.sh, `stream_interval:
10`), and the fit finds as many. Both belong to such a load and not to a server, so they are no part
of a set.

A set that is pooled over software takes the mean; `ideal` and a user's own set keep what they say
themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from qsopt.files import read_toml, understood
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import WRITTEN, shipped
from qsopt.spec.efficiency import Server
from qsopt.units import MICROSECOND

POOLED = "fitted"
"""The set that is pooled over software."""


@dataclass(frozen=True)
class ServerFit:
    """The fitted constants of serving, and the errors that they leave in times per output token."""

    scale: dict[str, float]
    """Time of a step over that of its operators, by software."""
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
        return Server(
            scale=of_software(self.scale, software),
            host_layer=self.host_layer,
            interference=self.interference,
            first_layer=self.first_layer,
        )


def of_software(values: Mapping[str, float], software: str) -> float:
    """The value of one software; the mean of all for any other name."""
    return values.get(software, fmean(values.values()))


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
