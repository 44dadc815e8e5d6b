"""What is q for every MoE of the catalog under every law, and how sure is that?

`python -m experiments.pages.quality_page` writes docs/quality.md and its plot.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tyro

from experiments.pages.template import render
from qsopt import belief
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.comparison.opinions import Opinion, opinions
from qsopt.errors import InputError
from qsopt.files import write_figure, write_text
from qsopt.physics.parameters import parameter_count
from qsopt.quality import BAND, FITTED, MATCHES, Match, law, laws, leave_one_out, power
from qsopt.quality.belief import DEFAULT, LEVEL
from qsopt.report.plot import BLUE, GREY, ORANGE
from qsopt.spec.model import Model, moe_layers

EXAMPLES = ("deepseek-v3", "qwen3-235b-a22b", "grok-1", "switch-c")
"""Models of the qs inequality, with an interval under every law."""
INTERVAL_LAW = DEFAULT
"""Law of the plotted intervals: needs no training tokens."""


@dataclass(frozen=True)
class Settings:
    """Where the page goes."""

    page: Path = Path("docs/quality.md")
    plot: Path = Path("docs/images/qs_bands.png")


@dataclass(frozen=True)
class Interval:
    """q of a model under a law: its own value, and the calibrated distribution."""

    q: float
    low: float
    median: float
    high: float
    below_one: float | None
    """Probability that q s < 1."""


def main(settings: Settings) -> None:
    jax.config.update("jax_enable_x64", True)
    moes = {
        name: model for name in model_names() if moe_layers(model := load_model(name)) is not None
    }
    answers = {
        name: opinions(model, model_facts(name).training_tokens) for name, model in moes.items()
    }
    page = render(
        "quality.md",
        matches=[row(match) for match in MATCHES],
        exact=sum(match.is_exact for match in FITTED),
        bounds=sum(not match.is_exact for match in FITTED),
        laboratories=len({match.laboratory for match in FITTED if match.is_exact}),
        errors={each.law: each for each in leave_one_out([law(DEFAULT), law("geometric")])},
        exponent=float(power().exponent),
        level=LEVEL,
        default=DEFAULT,
        interval_law=INTERVAL_LAW,
        laws=list(laws()),
        examples=[
            {"name": name, "s": active_share(moes[name]), "laws": intervals(name, moes[name])}
            for name in EXAMPLES
        ],
        models=[
            {"name": name, "s": active_share(moes[name]), "qs": [answer.q for answer in given]}
            for name, given in answers.items()
        ],
    )
    settings.page.parent.mkdir(parents=True, exist_ok=True)
    write_text(settings.page, page)
    draw(moes, answers, settings.plot)


def row(match: Match) -> dict[str, Any]:
    """A match with its numbers."""
    s = float(match.architecture.active_fraction)
    return {"match": match, "s": s, "qs": match.q * s, "fitted": match in FITTED}


def active_share(model: Model) -> float:
    """s of a model."""
    count = parameter_count(model)
    return float(count.active / count.total)


def intervals(name: str, model: Model) -> dict[str, Interval | None]:
    """q under every law, None where a law has no physical answer."""
    return {each: interval(each, model, model_facts(name).training_tokens) for each in laws()}


def interval(name: str, model: Model, tokens: float | None) -> Interval | None:
    """q under one law; None where it has no physical answer."""
    try:
        known = belief(model, name, tokens)
    except InputError:
        return None
    assert known.interval is not None and known.distribution is not None
    low, high = known.interval
    return Interval(known.raw, low, float(known.distribution.median), high, known.below_one)


def qs_interval(name: str, model: Model) -> tuple[float, float, float]:
    """Lower end, median and upper end of q s under the law of the plot."""
    tokens, s = model_facts(name).training_tokens, active_share(model)
    known = interval(INTERVAL_LAW, model, tokens)
    assert known is not None
    return known.low * s, known.median * s, known.high * s


def draw(moes: dict[str, Model], answers: dict[str, list[Opinion]], path: Path) -> None:
    """Median, interval and band of q s, one line a model."""
    order = sorted(moes, key=lambda name: qs_interval(name, moes[name])[1])
    figure, axes = plt.subplots(figsize=(8, 0.24 * len(order) + 1.2), layout="constrained")
    axes.axvline(1.0, color=ORANGE, linewidth=1.2)
    for height, name in enumerate(order):
        s = active_share(moes[name])
        low, middle, high = qs_interval(name, moes[name])
        band = [
            answer.qs for answer in answers[name] if answer.law in BAND and answer.qs is not None
        ]
        ends = [height, height]
        axes.plot([min(band), max(band)], ends, color=GREY, linewidth=1)
        thick = {"linewidth": 4, "alpha": 0.5, "solid_capstyle": "butt"}
        axes.plot([low, high], ends, color=BLUE, **thick)
        axes.plot(middle, height, "o", color=BLUE, markersize=4)
        beside = {"xycoords": ("axes fraction", "data"), "va": "center"}
        axes.annotate(f"s = {s:.3f}", (1.02, height), fontsize=7, color=GREY, **beside)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("q s = parameters of the dense match over parameters of the MoE")
    axes.annotate(
        " dense larger",
        (1.0, 1.0),
        xycoords=("data", "axes fraction"),
        color=ORANGE,
        fontsize=8,
        va="bottom",
    )
    axes.set_title(
        "Almost every released MoE is larger than its dense match", loc="left", fontsize=11
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Settings))
