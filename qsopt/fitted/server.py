"""What a server adds to the operators of its steps: constants fitted to end-to-end results, of one
software or the mean of all.

    TPOT = scale step + (time for each layer) layers + interference B prefill/osl
    TTFT = prefill + (time for each layer) layers + burst (B - 1) prefill

with the time of a layer in a step one for all software, and that before a first token one for each.
`burst` is the share of the other requests at a concurrency B whose prompts come before: clients
that begin at once, and that ask again when they are answered. It belongs to such a load and not to
a server, so it is no part of a set.

A set that is pooled over software takes the mean; `ideal` and a user's own set keep what they say
themselves.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from qsopt.errors import InputError
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import shipped
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
    first_layer: dict[str, float]
    """Added to the time to first token for each layer, by software [s]."""
    burst: float
    """Share of the other requests whose prompts come before, where a concurrency is kept up."""
    other_shapes: Errors
    """Of models that were left out of the fit."""

    def server(self, software: str) -> Server:
        """The constants of one software; the mean of all for any other name."""
        scale, first = (
            values.get(software, fmean(values.values()))
            for values in (self.scale, self.first_layer)
        )
        return Server(
            scale=scale,
            host_layer=self.host_layer,
            interference=self.interference,
            first_layer=first,
        )


def load_server_fit(path: Path) -> ServerFit:
    """Read the constants as `qsopt calibrate` writes them.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        backends = table["backend"]
        return ServerFit(
            {name: float(one["scale"]) for name, one in backends.items()},
            float(table["host_layer_us"]) * MICROSECOND,
            float(table["interference"]),
            {name: float(one["first_layer_us"]) * MICROSECOND for name, one in backends.items()},
            float(table["burst"]),
            Errors(*table["other_shapes"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); `qsopt calibrate` writes such a file"
        ) from None


@cache
def server_fit() -> ServerFit:
    """The constants that ship."""
    return load_server_fit(shipped("serving"))


def known_server(name: str | None) -> bool:
    """Whether a server of that efficiency set was measured."""
    return name == POOLED or name in server_fit().scale
