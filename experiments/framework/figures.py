"""Run all experiments one after the other, and put their figures into the docs.

`python -m experiments.framework.figures` writes `results/`, docs/findings.md and its images; `make
figures` runs it. Each experiment runs in a process of its own: a failure stops one of them, and
memory goes back. Compiled functions come from the cache that they share. Finished pieces are
loaded, so an interrupted run goes on where it stopped.
"""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.framework.measured import RECORDS
from experiments.framework.study import module_name
from qsopt.files import replacement

MEASURED = "real_stacks"
"""Rests on measured tables, which do not ship: what it found is kept in `experiments/data`, for
those who do not have them.
"""

PAGE = "findings"
"""Reads what the others wrote, so it comes last."""

EXPERIMENTS = (
    "deepseek_claim",
    "context_claim",
    "switch_claim",
    "reuse",
    "qs_predictor",
    MEASURED,
    "phase_maps",
    "sparsity_gradients",
    "hardware_for_moe",
    "comparison_items",
    PAGE,
)
"""In the order in which they run."""

SHOWN = re.compile(r"images/findings/([\w.-]+\.png)")


@dataclass(frozen=True)
class Settings:
    """What is run."""

    only: tuple[str, ...] = EXPERIMENTS
    """Experiments."""
    page: Path = Path("docs/findings.md")
    """Whose figures are copied beside it, into images/findings."""
    results: Path = Path("results")
    data: Path | None = None
    """Folder with measured results of serving; what was found with them is kept."""


def main(settings: Settings) -> int:
    failed = []
    for name in settings.only:
        began = time.perf_counter()
        if not run(name, settings):
            failed.append(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if PAGE in settings.only:
        copied = copy_figures(settings.page, settings.results)
        print(f"{len(copied)} figures beside {settings.page}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def run(name: str, settings: Settings) -> bool:
    """Run one experiment, or put what is kept of it in its place; whether that worked."""
    if name == MEASURED and settings.data is None:
        return restore(settings)
    done = subprocess.run(command(name, settings), check=False)
    if name == MEASURED and done.returncode == 0:
        _copy(settings.results / name / f"{name}.json", RECORDS / f"{name}.json")
    return done.returncode == 0


def command(name: str, settings: Settings) -> list[str]:
    """The command line of an experiment."""
    options = {"--output": settings.results / name}
    if name == PAGE:
        options = {"--results": settings.results, "--page": settings.page}
    if name == MEASURED and settings.data is not None:
        options["--data"] = settings.data
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", module_name(name), *words]


def restore(settings: Settings) -> bool:
    """Put what is kept of the measured results where the page looks for it; whether there is
    any.
    """
    kept = (
        RECORDS / f"{MEASURED}.json",
        settings.page.parent / "images" / "findings" / f"{MEASURED}.png",
    )
    if not all(path.is_file() for path in kept):
        return False
    folder = settings.results / MEASURED
    for path in kept:
        _copy(path, folder / path.name)
    return True


def copy_figures(page: Path, results: Path) -> list[Path]:
    """Copy the figures that a page shows, and none else.

    Raises:
        FileNotFoundError: if no experiment has made one of them.
    """
    folder, copied = page.parent / "images" / "findings", []
    made = {figure.name: figure for figure in sorted(results.glob("*/*.png"))}
    for name in dict.fromkeys(SHOWN.findall(page.read_text()) if page.exists() else []):
        if name not in made:
            raise FileNotFoundError(
                f"{page} shows {name}, and nothing under {results} is called that: run its "
                f"experiment"
            )
        copied.append(_copy(made[name], folder / name))
    return copied


def _copy(source: Path, target: Path) -> Path:
    """Copy a file whole; gives the copy."""
    with replacement(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
