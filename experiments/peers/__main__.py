"""What do other tools answer to the same questions, and how fast?

    python -m experiments.peers --aiconfigurator PYTHON [--ridgepoint PYTHON] \\
        [--llm-analysis PYTHON] [--genz PYTHON]

Each PYTHON is the interpreter of an environment in which that tool is installed; a tool that is not
given is left out. Keeps every section in experiments/data/peers.json, and writes docs/peers.md from
it.
"""

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tyro

from experiments.pages.template import render
from experiments.peers import requests, speed, steps
from experiments.peers.interpreters import PEERS, Installed, installed
from qsopt.cli.runtime import configure
from qsopt.errors import InputError
from qsopt.files import write_text

SECTIONS: dict[str, Callable[[Sequence[Installed], int], Any]] = {
    "requests": requests.rows,
    "steps": steps.rows,
    "first_answers": speed.first_answers,
    "searches": speed.searches,
    "rates": speed.rates,
}


@dataclass(frozen=True)
class Settings:
    """Who is asked what, and where it is written."""

    aiconfigurator: Path | None = None
    """Interpreter of an environment with aiconfigurator."""
    ridgepoint: Path | None = None
    """Interpreter of an environment with ridgepoint."""
    llm_analysis: Path | None = None
    """Interpreter of an environment with llm-analysis."""
    genz: Path | None = None
    """Interpreter of an environment with genz-llm."""
    only: str = ",".join(SECTIONS)
    """Sections, with commas; of the others the last numbers stay."""
    repeats: int = 3
    """Turns of timings of which the median is taken."""
    data: Path = Path("experiments/data/peers.json")
    output: Path = Path("docs/peers.md")


def main(settings: Settings) -> None:
    """Ask and write.

    Raises:
        InputError: if a tool is not where it was said to be, or does not answer.
    """
    peers = given(settings)
    configure(quick=False)
    record = json.loads(settings.data.read_text("utf-8")) if settings.data.is_file() else {}
    for name in settings.only.split(","):
        answers = SECTIONS[name](peers, settings.repeats)
        record[name] = {
            "answers": answers,
            "turns": settings.repeats,
            "versions": {"qsopt": version("qsopt")}
            | {each.peer.name: each.version for each in peers},
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "date": datetime.now(UTC).date().isoformat(),
            "load": round(os.getloadavg()[1], 1),
        }
        write_text(settings.data, json.dumps(record, indent=1) + "\n")
    write_text(settings.output, page(record))


def given(settings: Settings) -> list[Installed]:
    """The tools that can be asked; says which are left out."""
    peers = []
    for name, peer in PEERS.items():
        python = getattr(settings, name.replace("-", "_"))
        if python is None:
            print(f"{name}: left out, as --{name} is not given", flush=True)
        else:
            peers.append(installed(peer, python))
    return peers


def page(record: dict[str, Any]) -> str:
    """docs/peers.md, without the sections that were never asked."""
    answers = record["requests"]["answers"] if "requests" in record else []
    sections = dict.fromkeys(SECTIONS) | record
    text = render("peers.md", peers=PEERS, **sections, **requests.apart(answers))
    return text.rstrip() + "\n"


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
