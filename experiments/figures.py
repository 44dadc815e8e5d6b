"""All experiments one after the other, and their figures into the docs. `make figures` runs it.

Each experiment runs in a process of its own: a failure stops one of them, and memory goes back. Compiled functions come from
the cache that they share. Finished pieces are loaded, so an interrupted run goes on where it stopped.
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

SHOWN = re.compile(r"images/findings/([\w.-]+\.png)")


@dataclass(frozen=True)
class Settings:
    """What is run."""

    only: tuple[str, ...] = EXPERIMENTS
    """Experiments."""
    page: Path = Path("docs/findings.md")
    """Whose figures are copied beside it, into images/findings."""
    results: Path = Path("results")


def main(settings: Settings) -> int:
    failed = []
    for name in settings.only:
        began = time.perf_counter()
        if subprocess.run([sys.executable, "-m", f"experiments.{name}"], check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    copied = copy_figures(settings.page, settings.results)
    print(f"{len(copied)} figures beside {settings.page}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


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
            raise FileNotFoundError(f"{page} shows {name}, and nothing under {results} is called that: run its experiment")
        copied.append(Path(shutil.copy(made[name], folder / name)))
    return copied


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
