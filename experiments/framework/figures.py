"""Run all experiments one after the other, keep what the findings rest on, and make the page.

`python -m experiments.framework.figures` writes `results/`, `experiments/data/findings/`,
docs/findings.md and its images; `make figures` runs it. Each experiment runs in a process of its
own: a failure stops one of them, and memory goes back. Compiled functions come from the cache that
they share. Finished pieces are loaded, so an interrupted run goes on where it stopped.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.framework.measured import RECORDS
from experiments.framework.study import module_name
from qsopt.files import replacement, write_text
from qsopt.report.records import to_json

FINDINGS = (
    "waterfall",
    "lengths",
    "rule",
    "limits",
    "attention",
    "pairs",
    "mixed",
    "lifetimes",
    "hardware",
    "sparsity",
)
"""What the page rests on, in its order."""

OTHERS = ("comparison_items",)
"""Experiments with pages of their own."""

PAGE = "findings"
"""Reads what is kept of the others, so it comes last."""

EXPERIMENTS = (*FINDINGS, *OTHERS, PAGE)
"""In the order in which they run."""

KEPT = RECORDS / "findings"
"""What the page is made of, so that it can be made anew, and tested, without a run."""

UNKEPT = ("written", "seconds", "sources", "versions")
"""Of a record: what differs between two runs that found the same."""

IMAGES = Path("docs/images/findings")


@dataclass(frozen=True)
class Settings:
    """What is run."""

    only: tuple[str, ...] = EXPERIMENTS
    """Experiments."""
    results: Path = Path("results")
    kept: Path = KEPT
    images: Path = IMAGES


def main(settings: Settings) -> int:
    failed = []
    for name in settings.only:
        began = time.perf_counter()
        if not run(name, settings):
            failed.append(name)
        elif name in FINDINGS:
            keep(name, settings)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def run(name: str, settings: Settings) -> bool:
    """Run one experiment; whether that worked."""
    return subprocess.run(command(name, settings), check=False).returncode == 0


def command(name: str, settings: Settings) -> list[str]:
    """The command line of an experiment."""
    words = [sys.executable, "-m", module_name(name)]
    return words if name == PAGE else [*words, "--output", str(settings.results / name)]


def keep(name: str, settings: Settings) -> None:
    """Keep the record of a finding and its figures beside the page."""
    folder = settings.results / name
    record = json.loads((folder / f"{name}.json").read_text())
    kept = {key: value for key, value in record.items() if key not in UNKEPT}
    write_text(settings.kept / f"{name}.json", to_json(kept) + "\n")
    for figure in sorted(folder.glob(f"{name}.*")):
        if figure.suffix in (".png", ".svg"):
            with replacement(settings.images / figure.name) as temporary:
                shutil.copyfile(figure, temporary)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
