"""Which errors were aimed at, and which were reached?

`python -m experiments.pages.targets DATA` writes docs/targets.md. Errors of servers' times are of
fits to the end-to-end results of DATA, those of memory and energy stand in the shipped constants,
and those of operators, intervals and pairs are read from the pages that were made of them
(docs/calibration.md, docs/intervals.md, docs/measured-pairs.md).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qsopt.cli import runtime
from qsopt.files import write_text

runtime.configure(quick=False)

from experiments.pages.measured_sides import routed  # noqa: E402
from experiments.pages.template import render  # noqa: E402
from qsopt.calibration.report import COLUMNS  # noqa: E402
from qsopt.calibration.run import Served  # noqa: E402
from qsopt.calibration.serving.host import check_host  # noqa: E402
from qsopt.calibration.serving.runs import read_runs  # noqa: E402
from qsopt.calibration.tables.folder import read_folder  # noqa: E402
from qsopt.fitted.errors import Errors, errors  # noqa: E402
from qsopt.fitted.groups import load_calibration, shipped  # noqa: E402
from qsopt.fitted.memory import memory_fit  # noqa: E402
from qsopt.fitted.power import shipped_tokens  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"


class Target(NamedTuple):
    """One line of the table."""

    quantity: str
    aim: str
    """Median / 90th percentile [%], as the cells are."""
    cells: list[str]
    """Of rows that were fitted, of other models, of other accelerators."""
    leader: str
    """The same of the market leader, on rows kept apart."""
    missed: bool
    """Whether the aim is missed where the model, or all but the row, was left out."""


OPERATORS = {
    "prefill attention": ("prompts' attention", "14 / 45", 1),
    "prefill mla": ("prompts' latent attention", "14 / 45", 1),
    "prefill gemm": ("prompts' products", "11 / 45", 1),
    "prefill moe": ("prompts' MoE layers", "14 / 48", 1),
    "MLA decode attention": ("latent decode attention, other accelerators", "16 / 60", 2),
}
"""Lines of the calibration page: what they are called here, the aim, and the column it is for."""

INTERVALS = ("time per output token", "tokens/s/device", "room for the cache")


def servers(data: Path) -> Iterator[Target]:
    """Times and rates of servers."""
    folder = read_folder(data)
    runs = read_runs(folder.serving[0], load_calibration(shipped()), folder.skipped)
    served = Served(runs, *check_host(runs))
    moe = np.array([routed(str(name)) for name in runs.model])
    every, few = np.ones(len(moe), dtype=bool), runs.concurrency <= 8
    yield _line("TPOT, MoE models", "10 / 33", _tpot(served, moe), "17.4 / 44.7")
    yield _line("TPOT, dense models", "8 / 26", _tpot(served, ~moe), "7.8 / 25.5")
    yield _mean_of_models(served)
    rates = {
        name: runs.sequences / (served.times[name] + served.first[name] / runs.answer)
        for name in COLUMNS
    }
    found = [errors(rates[name], runs.throughput) for name in COLUMNS]
    yield _line("tokens/s/device", "10 / 32", found, "11.4 / 36.3")
    for name, rows, aim in (("1 to 8 at once", few, "15 / 45"), ("all", every, "25 / 70")):
        known = rows & np.isfinite(runs.ttft)
        found = [errors(served.first[column][known], runs.ttft[known]) for column in COLUMNS]
        yield _line(f"TTFT, {name}", aim, found, "42 to 49 / -")


def _tpot(served: Served, rows: np.ndarray) -> list[Errors]:
    return [errors(served.times[name][rows], served.runs.tpot[rows]) for name in COLUMNS]


def _mean_of_models(served: Served) -> Target:
    models = np.unique(served.runs.model)
    by_model = [_tpot(served, served.runs.model == name) for name in models]
    means = [100.0 * np.mean([one[column].median for one in by_model]) for column in range(3)]
    cells = [f"{mean:.1f}" for mean in means]
    return Target("TPOT, mean over models", "10", cells, "15.7", bool(means[1] > 10.0))


def _line(
    quantity: str, aim: str, found: list[Errors], leader: str = "-", column: int = 1
) -> Target:
    """A line from errors of rows that were fitted, of other models, of other accelerators."""
    cells = [f"{100.0 * one.median:.1f} / {100.0 * one.p90:.1f}" for one in found]
    return Target(quantity, aim, cells, leader, not _within(cells[column], aim))


def _within(cell: str, aim: str) -> bool:
    return all(
        float(one) <= float(most) for one, most in zip(_parts(cell), _parts(aim), strict=True)
    )


def _parts(cell: str) -> list[str]:
    return cell.split(" / ")


def constants() -> Iterator[Target]:
    """The room for the cache, and the energy of tokens."""
    room, tokens = memory_fit().errors, shipped_tokens().errors
    found = [room["fitted"], room["other_models"]]
    line = _line("room for the cache", "2 / 10", found)
    yield line._replace(cells=[*line.cells, "-"])
    found = [tokens[name] for name in ("fitted", "other_models", "other_accelerators")]
    yield _line("joules per token", "12 / 35", found)


def operators() -> Iterator[Target]:
    """Kernels, as the calibration page has them."""
    for name, (quantity, aim, column) in OPERATORS.items():
        cells = [_bare(cell) for cell in _row("calibration.md", name)[2:5]]
        yield Target(quantity, aim, cells, "-", not _within(cells[column], aim))


def _bare(cell: str) -> str:
    """Median / 90th percentile without what stands behind them."""
    return " / ".join(
        part.split()[0].rstrip(",") for part in _parts(cell.partition(", bias")[0])[:2]
    )


def intervals() -> Iterator[Target]:
    """Shares of rows inside their 80 % interval, models left out and accelerators left out."""
    for quantity in INTERVALS:
        lines = [row for row in _rows("intervals.md") if row[0] == quantity and len(row) == 7]
        of = {row[1]: row[5] for row in reversed(lines)}
        cells = ["-", of["model"], of.get("accelerator", "-")]
        missed = not 75.0 <= float(of["model"]) <= 85.0
        yield Target(f"80 % interval, {quantity}: inside [%]", "75 to 85", cells, "-", missed)


def ratio() -> Target:
    """The ratio of pairs of end-to-end results, as a factor."""
    row = _row("measured-pairs.md", "end to end")
    factor, lean = row[6], float(row[5])
    missed = not (_within(factor, "1.15 / 1.4") and 0.9 <= lean <= 1.1)
    cells = ["-", f"{factor}, lean {lean:.2f}", "-"]
    name = "ratio of measured pairs, as factors"
    return Target(name, "1.15 / 1.4, lean 1", cells, "-", missed)


def _rows(page: str) -> list[list[str]]:
    """Cells of all tables of a page."""
    lines = (DOCS / page).read_text().splitlines()
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line[:1] == "|"]


def _row(page: str, name: str) -> list[str]:
    """The first line of a page's tables that begins so."""
    return next(row for row in _rows(page) if row[0] == name)


def main() -> None:
    lines = [*servers(Path(sys.argv[1])), *operators(), *constants(), *intervals(), ratio()]
    write_text(DOCS / "targets.md", render("targets.md", lines=lines))


if __name__ == "__main__":
    main()
