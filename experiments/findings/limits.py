"""Who wins if a token is due within so many milliseconds?

`python -m experiments.findings.limits` compares whole requests under every limit on the time per
output token, each side in its best way of serving, for every dense match, with 80 % intervals; and
beside it decode alone at the same context in the MoE's own body at the geometric q, which is what
the paper's argument asks. At some limits also at the q of every law as published, and by the
roofline.
"""

from dataclasses import dataclass

from experiments.findings import sides
from experiments.findings.limits_figure import draw
from experiments.findings.sides import at_law, compared, limited
from experiments.framework import study
from experiments.framework.pieces import Row

NAME = "limits"

MATCHES: dict[str, Row] = {
    "same body": {"twin": "same-body"},
    "released shape": {},
    "released, 8 KV heads": {"twin_attention": "gqa8"},
}
DECODE: Row = {"twin": "same-body", "law": "geometric", "law_raw": True}


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Cases and limits."""

    cases: tuple[tuple[str, str, float, float, str], ...]
    """Model, cluster, prompt, answer, and a dense model or nothing."""
    limits_ms: tuple[float, ...]
    """Longest times per output token; 0 for none."""
    laws: tuple[str, ...]
    """Whose own q is asked too, at some limits."""
    some_limits_ms: tuple[float, ...]
    """For the laws and for the roofline."""


def along_limits(
    model: str,
    cluster: str,
    prompt: float,
    answer: float,
    dense: str,
    limits_ms: list[float],
    efficiency: str,
) -> list[Row]:
    """Every match of a model under every limit, and decode alone."""
    base: Row = {"model": model, "cluster": cluster, "efficiency": efficiency}
    requests = {"prompt": prompt, "answer": answer}
    curves = {dense: {"dense": dense}} if dense else MATCHES
    asked = {name: base | requests | how for name, how in curves.items()}
    alone = {"context": prompt + answer / 2.0}
    asked["decode alone" + ("" if dense else ", geometric q")] = (
        base | alone | ({"dense": dense} if dense else DECODE)
    )
    return [
        {
            **base,
            **requests,
            "match": name,
            "limit_ms": limit,
            **compared(**flags, **limited(limit)),
        }
        for name, flags in asked.items()
        for limit in limits_ms
    ]


def by_law(
    model: str, cluster: str, prompt: float, answer: float, laws: list[str], limits_ms: list[float]
) -> list[Row]:
    """The released shape at each law's own q."""
    asked: Row = {"model": model, "cluster": cluster, "prompt": prompt, "answer": answer}
    return [
        {
            **asked,
            "law": law,
            "limit_ms": limit,
            **compared(**asked, **at_law(law), **limited(limit)),
        }
        for law in laws
        for limit in limits_ms
    ]


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        names = ("model", "cluster", "prompt", "answer", "dense")
        cases = [dict(zip(names, case, strict=True)) for case in settings.cases]
        rows, roofline = (
            study.joined(this.pieces([{**case, **how} for case in cases], along_limits, (sides,)))
            for how in (
                {"limits_ms": settings.limits_ms, "efficiency": "fitted"},
                {"limits_ms": settings.some_limits_ms, "efficiency": "ideal"},
            )
        )
        keys = [
            {name: case[name] for name in names[:-1]}
            | {"laws": settings.laws, "limits_ms": settings.some_limits_ms}
            for case in cases
            if not case["dense"]
        ]
        laws = study.joined(this.pieces(keys, by_law, (sides,)))
        this.write(rows, draw, laws=laws, roofline=roofline)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
