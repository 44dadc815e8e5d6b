"""What every experiment shares: settings from a file and the command line, resumable pieces, and
one set of results.

An experiment is one file with one question and one figure or table. Its defaults stand in
`configs/experiments/<name>.toml`, and it writes `<name>.csv`, `<name>.json` (rows, inputs, seed,
versions), `<name>.png` and `<name>.svg` into `results/<name>/`.
"""

import csv
import io
import platform
import sys
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tyro
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.framework.pieces import Row, Store, sources
from qsopt.cli import runtime
from qsopt.errors import InputError
from qsopt.files import replacement, write_text
from qsopt.report.records import to_json

SETTINGS = Path(__file__).parents[2] / "configs" / "experiments"
"""Settings stand in the repository only: they do not ship with the package."""
RESULTS = Path("results")
DPI = 110
COLOURS = 256


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every experiment."""

    output: Path | None = None
    """Folder for the results; results/<name> if left out."""
    seed: int = 0
    """Of whatever is drawn at random."""
    fresh: bool = False
    """Compute everything anew instead of going on from finished pieces."""


SettingsType = TypeVar("SettingsType", bound=Settings)
Figures = Figure | dict[str, Figure] | None
"""One figure, several by name, or none."""


class Study:
    """One run of an experiment."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self.folder = settings.output or RESULTS / name
        self.began = time.perf_counter()

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        plt.close("all")

    def pieces(
        self,
        keys: Iterable[Row],
        compute: Callable[..., list[Row]],
        helpers: tuple[ModuleType, ...] = (),
    ) -> list[list[Row]]:
        """Rows of every piece, loaded where an earlier run finished it.

        Args:
            keys: inputs of each piece, JSON-able; `compute` gets them as keywords.
            compute: makes the rows of a piece.
            helpers: modules of experiments that `compute` relies on; a change in them makes pieces
                anew.
        """
        keys, store = list(keys), Store.for_function(self.folder / "pieces", compute, helpers)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.name, total=len(keys))
            pieces = []
            for key in keys:
                rows = None if self.settings.fresh else store.load(key)
                pieces.append(store.save(key, compute(**key)) if rows is None else rows)
                bar.advance(task)
        return pieces

    def write(
        self, rows: list[Row], draw: Callable[[list[Row]], Figures] | None = None, **more: Any
    ) -> None:
        """Write the rows as CSV and JSON, and what `draw` makes of them as PNG; `more` goes into
        the JSON.
        """
        record = {
            "experiment": self.name,
            "inputs": {
                key: _plain(value)
                for key, value in asdict(self.settings).items()
                if key not in ("output", "fresh")
            },
            "seed": self.settings.seed,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("qsopt", "jax", "numpy")},
            },
            "sources": sources(),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.began, 1),
            **more,
            "rows": rows,
        }
        write_text(self.folder / f"{self.name}.json", to_json(record))
        write_text(self.folder / f"{self.name}.csv", table(rows))
        figures = None if draw is None else draw(rows)
        named = {self.name: figures} if isinstance(figures, Figure) else figures or {}
        for name, figure in named.items():
            save(figure, self.folder / f"{name}.png")
        print(
            f"{self.name}: {len(rows)} rows in {self.folder} ({record['seconds']} s)",
            file=sys.stderr,
        )


def joined(pieces: Iterable[list[Row]]) -> list[Row]:
    """The rows of several pieces."""
    return [row for piece in pieces for row in piece]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as an SVG, and as a PNG of few colours, which is a third of the size."""
    vector, pixels = io.BytesIO(), io.BytesIO()
    with plt.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(vector, format="svg", metadata={"Date": None})
    write_text(path.with_suffix(".svg"), vector.getvalue().decode())
    figure.savefig(pixels, dpi=DPI)
    few = Image.open(pixels).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    with replacement(path) as temporary:
        few.save(temporary, optimize=True)


def module_name(name: str) -> str:
    """The module of an experiment, as `python -m` takes it.

    Raises:
        InputError: if there is no such experiment.
    """
    root = Path(__file__).parents[1]
    for path in sorted(root.glob(f"*/{name}.py")):
        return ".".join((root.name, path.parent.name, name))
    raise InputError(f"{name}: no such experiment under {root.name}/")


def table(rows: list[Row]) -> str:
    """Rows as CSV, with a column for every key that any of them has."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        fieldnames=list(dict.fromkeys(key for row in rows for key in row)),
        lineterminator="\n",
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def defaults(kind: type[SettingsType], name: str) -> SettingsType:
    """The settings that stand in the experiment's file.

    Raises:
        InputError: if the file lacks a setting or names one that does not exist.
    """
    path = SETTINGS / f"{name}.toml"
    try:
        return kind(
            **{key: _frozen(value) for key, value in tomllib.loads(path.read_text()).items()}
        )
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: {error}; compare it with the settings in {kind.__module__}"
        ) from error


def start(main: Callable[[SettingsType], None], kind: type[SettingsType], name: str) -> None:
    """Run an experiment from the command line: in float64, with a cache of what was compiled.

    Raises:
        SystemExit: with status 2 and a line on stderr where the input is wrong.
    """
    runtime.configure()
    try:
        main(tyro.cli(kind, default=defaults(kind, name), prog=f"python -m {module_name(name)}"))
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def _frozen(value: Any) -> Any:
    """Lists of a settings file as tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A setting as JSON has it; of a path its name, as folders differ between machines."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Path) else value
