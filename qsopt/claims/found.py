"""What comes of a claim, and the ratios of its rows."""

from typing import Any, NamedTuple

Row = dict[str, Any]

RATIO = "ratio_dense_over_moe"
"""Of a row: throughput of the dense match over that of the MoE; None where a side has none."""


class Found(NamedTuple):
    """What comes of a claim."""

    verdict: str
    """In two or three words."""
    words: str
    """In a sentence with numbers."""
    rows: list[Row]


def ratios(rows: list[Row], view: str) -> list[float]:
    """All ratios of a view."""
    found = [row[RATIO] for row in rows if row["view"] == view]
    return [ratio for ratio in found if ratio is not None]
