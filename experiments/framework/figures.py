"""All experiments one after the other, and their figures into the docs. `make figures` runs it.

Each experiment runs in a process of its own: a failure stops one of them, and memory goes back.
Compiled functions come from the cache that they share. Finished pieces are loaded, so an
interrupted run goes on where it stopped.
"""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

EXPERIMENTS = (
    "deepseek_claim",
    "context_claim",
    "switch_claim",
    "reuse",
    "qs_predictor",
    "real_stacks",
    "phase_maps",
    "sparsity_gradients",
    "hardware_for_moe",
    "findings",
)
"""In the order in which they run: the page comes last, as it reads what the others wrote."""

MEASURED = "real_stacks"
"""Rests on measured tables, which do not ship: what it found is kept beside the page, for those who
do not have them.
"""

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
    """Folder with measured results of serving; what was found with them is kept beside the page."""


def main(settings: Settings) -> int:
    failed = []
    for name in settings.only:
        began = time.perf_counter()
        if not (
            _kept(settings) if name == MEASURED and settings.data is None else _ran(name, settings)
        ):
            failed.append(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    copied = copy_figures(settings.page, settings.results)
    print(f"{len(copied)} figures beside {settings.page}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def _ran(name: str, settings: Settings) -> bool:
    """Run one experiment; what was found with measured tables is kept."""
    more = ["--data", str(settings.data)] if name == MEASURED else []
    if subprocess.run([sys.executable, "-m", f"experiments.{name}", *more], check=False).returncode:
        return False
    if name == MEASURED:
        shutil.copy(settings.results / name / f"{name}.json", _record(settings))
    return True


def _kept(settings: Settings) -> bool:
    """Put what is kept of the measured results where the page looks for it."""
    folder, figure = (
        settings.results / MEASURED,
        settings.page.parent / "images" / "findings" / f"{MEASURED}.png",
    )
    folder.mkdir(parents=True, exist_ok=True)
    if not (_record(settings).is_file() and figure.is_file()):
        return False
    shutil.copy(_record(settings), folder)
    shutil.copy(figure, folder)
    return True


def _record(settings: Settings) -> Path:
    return settings.page.parent / f"{MEASURED}.json"


def copy_figures(page: Path, results: Path) -> list[Path]:
    """Copy the figures that a page shows, and none else.

    Raises:
        FileNotFoundError: if no experiment has made one of them.
    """
    folder, copied = page.parent / "images" / "findings", []
    folder.mkdir(parents=True, exist_ok=True)
    made = {figure.name: figure for figure in sorted(results.glob("*/*.png"))}
    for name in dict.fromkeys(SHOWN.findall(page.read_text()) if page.exists() else []):
        if name not in made:
            raise FileNotFoundError(
                f"{page} shows {name}, and nothing under {results} is called that: run its "
                f"experiment"
            )
        copied.append(Path(shutil.copy(made[name], folder / name)))
    return copied


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
