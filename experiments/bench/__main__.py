"""How fast is qsopt on this machine: how soon is a first answer, how many designs a second?

`python -m experiments.bench` (`make bench`) measures, keeps every section in
experiments/data/performance.json, and writes docs/performance.md from it.
"""

import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import jax
import tyro

from experiments.bench import answers, batches, first_answers
from experiments.bench.clock import Row
from experiments.pages.template import render
from qsopt.cli.runtime import configure
from qsopt.files import write_text

SECTIONS: dict[str, Callable[[int], Iterator[Row]]] = {
    "first": first_answers.rows,
    "batches": batches.rows,
    "answers": answers.rows,
}


@dataclass(frozen=True)
class Settings:
    """What is measured, and where it is written."""

    only: str = ",".join(SECTIONS)
    """Sections to measure, with commas; of the others the last numbers stay."""
    repeats: int = 3
    """Measurements of which the median is taken."""
    data: Path = Path("experiments/data/performance.json")
    output: Path = Path("docs/performance.md")


def main(settings: Settings) -> None:
    """Measure and write."""
    configure(quick=False)
    record = json.loads(settings.data.read_text("utf-8")) if settings.data.is_file() else {}
    for name in settings.only.split(","):
        rows = []
        for row in SECTIONS[name](settings.repeats):
            print(f"{row.what}: {row.value:.4g} {row.unit} (aim {row.aim})", flush=True)
            rows.append(asdict(row))
        record[name] = {
            "rows": rows,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "jax": jax.__version__,
            "date": datetime.now(UTC).date().isoformat(),
            "load": round(os.getloadavg()[1], 1),
        }
        write_text(settings.data, json.dumps(record, indent=1) + "\n")
    write_text(settings.output, render("performance.md", sections=record))


if __name__ == "__main__":
    main(tyro.cli(Settings))
