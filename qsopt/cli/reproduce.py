"""`qsopt reproduce`: the paper's claims, each as it is stated and what comes of it here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qsopt.claims.paper import CLAIMS, SOURCE, ClaimName, found
from qsopt.errors import InputError
from qsopt.files import check_plot
from qsopt.report.records import answer_json
from qsopt.report.text import console, show_rows


@dataclass(frozen=True)
class Reproduce:
    """A claim of the paper that qsopt grew from: what it says, and what is found, as the paper
    argues and as qsopt counts.
    """

    claim: Annotated[Literal["list", ClaimName], tyro.conf.Positional]
    """Name of a claim, or list for all of them."""
    plot: Path | None = None
    """Write the numbers as a plot to this PNG, SVG or PDF file, and as CSV beside it."""
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def run(self) -> None:
        """Compute and print.

        Raises:
            InputError: if no plot can be written, or of a list.
        """
        check_plot(self.plot)
        if self.claim == "list":
            self._list()
            return
        answer = found(self.claim)
        claim = CLAIMS[self.claim]
        if self.plot is not None:
            from qsopt.report.claims_plot import plot_claim  # noqa: PLC0415  (matplotlib is slow to import)

            plot_claim(answer.rows, claim.picture, self.plot)
        record = {
            "claim": claim.name,
            "source": SOURCE,
            "statement": claim.statement,
            "question": claim.question,
            "verdict": answer.verdict,
            "found": answer.words,
            "rows": answer.rows,
        }
        print(answer_json(record)) if self.json else _show(record)

    def _list(self) -> None:
        if self.plot is not None:
            raise InputError("plot: give the name of a claim; a list has no plot")
        rows = [{"claim": claim.name, "statement": claim.statement} for claim in CLAIMS.values()]
        if self.json:
            print(answer_json({"claims": rows}))
        else:
            show_rows(rows, {"claim": "claim", "statement": "what the paper says"})


def _show(record: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]the paper[/bold]: {record['statement']} ({record['source']})")
    out.print(f"asked: {record['question']}")
    out.print(f"[bold]{record['verdict']}[/bold]: {record['found']}")
    rows = [{name: _short(value) for name, value in row.items()} for row in record["rows"]]
    show_rows(rows, {name: name.replace("_", " ") for name in rows[0]})


def _short(value: Any) -> Any:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else value
