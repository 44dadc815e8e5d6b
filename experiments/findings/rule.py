"""Which rule of thumb names the winner on whole requests, now that q s < 1 does not?

`python -m experiments.findings.rule` draws requests (prompt, answer, cached share), sizes of the
dense model and its shape for several models and clusters, finds the true winner by the exact search
on both sides, and scores closed forms on them (see `scores`). What a form leaves open is one
constant, fitted on the training cases and tried on models and accelerators that it has not seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from experiments.findings import scores, sides
from experiments.findings.requests_drawn import balance, drawn
from experiments.findings.rule_figure import draw
from experiments.findings.scores import FITTED, FORMS, score
from experiments.framework import study
from experiments.framework.pieces import Row

NAME = "rule"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """What is drawn, and of which part the constant is fitted."""

    seen: tuple[tuple[str, str], ...]
    """Models and clusters that the constant is fitted to."""
    unseen: tuple[tuple[str, str], ...]
    """Models or accelerators that it has not seen."""
    draws: int
    """Requests for each of them."""
    prompts: tuple[float, float]
    answers: tuple[float, float]
    sizes: tuple[float, float]
    """Range of q, evenly in its log as the others."""
    cached: tuple[float, ...]


# ---- fitting and scoring -------------------------------------------------------------------------


STARTS = (0.01, 1.0, 100.0)
"""Of a constant."""


def fitted_constant(rows: list[Row], name: str) -> float:
    """The constant of a form, by maximum likelihood of a logistic in the form's log."""
    wins, form = scores.truth(rows), FORMS[name]

    def loss(values: np.ndarray) -> float:
        margin = np.exp(min(values[1], 5.0)) * form(rows, float(np.exp(values[0])))
        return float(np.mean(np.logaddexp(0.0, np.where(wins, -margin, margin))))

    starts = [np.array([np.log(constant), 0.0]) for constant in STARTS]
    found = [minimize(loss, start, method="Nelder-Mead") for start in starts]
    return float(np.exp(min(found, key=lambda each: each.fun).x[0]))


def table(parts: dict[str, list[Row]], constants: dict[str, float]) -> list[Row]:
    """Every form on every part."""
    rows: list[Row] = []
    for part, members in parts.items():
        for name, form in FORMS.items():
            values = form(members, constants.get(name, 0.0)) if members else np.zeros(0)
            found = score(values, scores.truth(members))
            rows.append({"part": part, "form": name, **found._asdict()})
    return rows


def _with_machines(rows: list[Row], machines: list[Row]) -> list[Row]:
    """The rows at which both sides run, each with what is known of its machine."""
    known = {(machine["model"], machine["cluster"]): machine for machine in machines}
    return [row | known[row["model"], row["cluster"]] for row in rows if row["ratio"]]


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        how: dict[str, Any] = {
            "draws": settings.draws,
            "prompts": settings.prompts,
            "answers": settings.answers,
            "sizes": settings.sizes,
            "cached": settings.cached,
            "seed": settings.seed,
        }
        known, other = (
            study.joined(
                this.pieces([{"model": m, "cluster": c, **how} for m, c in part], drawn, (sides,))
            )
            for part in (settings.seen, settings.unseen)
        )
        places = [{"model": m, "cluster": c} for m, c in (*settings.seen, *settings.unseen)]
        machines = study.joined(this.pieces(places, balance, (sides,)))
        seen, unseen = (_with_machines(part, machines) for part in (known, other))
        constants = {name: fitted_constant(seen, name) for name in FITTED}
        models = {row["model"] for row in seen}
        parts = {
            "fitted": seen,
            "unseen": unseen,
            "unseen models": [row for row in unseen if row["model"] not in models],
            "unseen accelerators": [row for row in unseen if row["model"] in models],
            "unseen, same body": [row for row in unseen if row["match"] == "same-body"],
            "unseen, released shape": [row for row in unseen if row["match"] == "released"],
            "unseen, little read": [row for row in unseen if scores.read(row) <= 1.0],
            "unseen, much read": [row for row in unseen if scores.read(row) > 1.0],
        }
        marked = [row | {"seen": False} for row in unseen] + [row | {"seen": True} for row in seen]
        more = {"constants": constants, "scores": table(parts, constants), "machines": machines}
        this.write(marked, lambda rows: draw(rows, constants), **more)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
