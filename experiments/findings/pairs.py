"""Do models that score alike, measured on the same servers, come out as predicted?

`python -m experiments.findings.pairs` asks on requests and on decode alone about every pair of
`experiments/data/matched_pairs.toml`. Nothing was fitted to any of them.
"""

import math
import tomllib
from dataclasses import dataclass
from typing import Any

from experiments.findings import sides
from experiments.findings.pairs_figure import draw
from experiments.findings.sides import compared
from experiments.framework import study
from experiments.framework.measured import RECORDS
from experiments.framework.pieces import Row

NAME = "pairs"
PAIRS = RECORDS / "matched_pairs.toml"
OF_REQUESTS = ("prompt", "answer")


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Nothing beyond what every experiment has: the pairs stand in their file."""


def predicted(pair: Row, case: Row) -> list[Row]:
    """One way to ask about a pair: on requests, and on the decode steps of the same requests."""
    flags = {"model": pair["moe"], "dense": pair["dense"], **case["flags"]}
    requests = compared(**flags)
    context = flags["prompt"] + flags["answer"] / 2.0
    alone = {name: value for name, value in flags.items() if name not in OF_REQUESTS}
    decode = compared(**alone, context=context)
    return [
        {
            "pair": pair["name"],
            "case": case["words"],
            "measured": pair["measured"],
            **requests,
            "decode": decode["ratio"],
            "decode_low": decode["low"],
            "decode_high": decode["high"],
            "inside": requests["low"] <= pair["measured"] <= requests["high"],
            "error": math.log(requests["ratio"] / pair["measured"]),
            "decode_error": math.log(decode["ratio"] / pair["measured"]),
            "winner": _same_side(requests["ratio"], pair["measured"]),
            "decode_winner": _same_side(decode["ratio"], pair["measured"]),
        }
    ]


def _same_side(one: float, other: float) -> bool:
    """Whether two ratios name the same winner."""
    return (one > 1.0) == (other > 1.0)


def read() -> list[dict[str, Any]]:
    """The pairs with their sources."""
    return tomllib.loads(PAIRS.read_text())["pair"]


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        pairs = read()
        keys = [
            {
                "pair": {name: pair[name] for name in ("name", "moe", "dense", "measured")},
                "case": case,
            }
            for pair in pairs
            for case in pair["cases"]
        ]
        rows = study.joined(this.pieces(keys, predicted, (sides,)))
        this.write(rows, draw, pairs=[{k: v for k, v in p.items() if k != "cases"} for p in pairs])


if __name__ == "__main__":
    study.start(main, Settings, NAME)
