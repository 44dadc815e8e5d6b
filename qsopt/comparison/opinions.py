"""What the quality laws say about one MoE: q with its uncertainty, and all laws side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import NAMED, SAME_BODY, dense_match
from qsopt.comparison.duel import Duel
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import in_batches, stack
from qsopt.deployments.optimum import CASES, best_of_each
from qsopt.errors import InputError
from qsopt.quality import BAND, MoeArchitecture, QualityLaw, laws
from qsopt.quality.of_model import architecture, checked_q, law_warnings
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True)
class Opinion:
    """One law's answer; q, ratio and verdict are None where it has none that means anything."""

    law: str
    q: float | None
    qs: float | None
    ratio: float | None
    verdict: str | None
    in_range: bool
    """Whether the model lies inside what the law was fitted on; False for a rule that was never
    fitted.
    """
    in_band: bool
    """Whether the law belongs to the band."""
    warnings: tuple[str, ...]


def opinions(
    model: Model,
    tokens: float | None,
    service: Service | None = None,
    duel: Duel | None = None,
) -> list[Opinion]:
    """Every law's answer about a model.

    Args:
        model: the MoE.
        tokens: training tokens, None if unknown.
        service: what both sides are deployed for; without it there are no ratios.
        duel: the comparison at the central q.
    """
    seen, known = architecture(model, tokens), laws()
    qs: dict[str, float | InputError] = {
        name: _attempt(each, seen, tokens) for name, each in known.items()
    }
    valid = {name: q for name, q in qs.items() if isinstance(q, float)}
    dense = {} if service is None or duel is None else _throughputs(model, valid, service, duel)
    moe = 0.0 if duel is None else float(duel.throughputs[0])
    return [
        _opinion(each, qs[name], seen, tokens is not None, dense.get(name), moe)
        for name, each in known.items()
    ]


def _attempt(each: QualityLaw, seen: MoeArchitecture, tokens: float | None) -> float | InputError:
    try:
        return checked_q(each, seen, tokens is not None)
    except InputError as error:
        return error


def _throughputs(
    model: Model, qs: Mapping[str, float], service: Service, duel: Duel
) -> dict[str, float]:
    """Throughput of the exact match of each q, by the name of its law."""
    if not qs:
        return {}
    kind = SAME_BODY if duel.kind == NAMED else duel.kind
    matches = stack([aligned(dense_match(model, scalar(q), kind), model) for q in qs.values()])
    reached = in_batches(
        lambda part: best_of_each(part, service, duel.dense.layouts).throughput, matches, CASES
    )
    return dict(zip(qs, map(float, reached), strict=True))


def _opinion(
    each: QualityLaw,
    q: float | InputError,
    seen: MoeArchitecture,
    tokens_known: bool,
    dense: float | None,
    moe: float,
) -> Opinion:
    warnings = law_warnings(each, seen, tokens_known)
    if isinstance(q, InputError):
        warnings = (
            warnings
            if any(text.startswith("unphysical") for text in warnings)
            else [*warnings, str(q)]
        )
    warnings = warnings if each.range else [*warnings, "never fitted: a rule of thumb"]
    number = None if isinstance(q, InputError) else q
    return Opinion(
        law=each.name,
        q=number,
        qs=None if number is None else number * float(seen.active_fraction),
        ratio=dense / moe if dense and moe else None,
        verdict=None if dense is None else verdict(moe, dense),
        in_range=bool(each.range) and not any(text.startswith("extrapolates") for text in warnings),
        in_band=each.name in BAND,
        warnings=tuple(warnings),
    )
