"""What a server adds to the operators of its steps: constants fitted to end-to-end results, of one
software or the mean of all.

    TPOT = scale step + host + interference B prefill/osl

A set that is pooled over software takes the mean; `ideal` and a user's own set keep what they say
themselves.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from qsopt.errors import InputError
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import shipped
from qsopt.spec.efficiency import Server
from qsopt.units import MILLISECOND

POOLED = "fitted"
"""The set that is pooled over software."""


@dataclass(frozen=True)
class ServerFit:
    """The fitted constants of serving, and the errors that they leave in times per output token."""

    scale: dict[str, float]
    """Time of a step over that of its operators, by software."""
    host: dict[str, float]
    """Added to every step, by software [s]."""
    interference: float
    """Share of the reading of prompts for which decoding waits."""
    other_shapes: Errors
    """Of models that were left out of the fit."""

    def server(self, software: str) -> Server:
        """The constants of one software; the mean of all for any other name."""
        scale, host = (
            values.get(software, float(np.mean(list(values.values()))))
            for values in (self.scale, self.host)
        )
        return Server(scale=scale, host=host, interference=self.interference)


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
            {name: float(one["host_ms"]) * MILLISECOND for name, one in backends.items()},
            float(table["interference"]),
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
