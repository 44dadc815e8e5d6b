"""What is believed of q, and what all laws say, as plain records."""

from typing import TYPE_CHECKING, Any

from qsopt.quality.belief import LEVEL, Belief

if TYPE_CHECKING:
    from qsopt.comparison.opinions import Opinion


def belief_record(held: Belief, law: str) -> dict[str, Any]:
    """Which law gave q, and how sure it is; nulls where q was given."""
    return {
        "law": law,
        "q_centre": held.q,
        "q_raw": held.raw,
        "q_interval": None if held.interval is None else list(held.interval),
        "q_level": None if held.interval is None else LEVEL,
        "probability_qs_below_one": held.below_one,
    }


def opinion_records(opinions: "list[Opinion]") -> list[dict[str, Any]]:
    """One record a law."""
    return [
        {
            "law": each.law,
            "q": each.q,
            "qs": each.qs,
            "ratio_dense_over_moe": each.ratio,
            "verdict": each.verdict,
            "in_range": each.in_range,
            "in_band": each.in_band,
            "warnings": list(each.warnings),
        }
        for each in opinions
    ]
