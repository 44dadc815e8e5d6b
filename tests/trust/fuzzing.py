"""What every reader must survive: its file, text or command line, changed at random, gives a record
with sound numbers or an `InputError` of one line, and nothing else.

A target takes a generator of random choices: hypothesis gives one that shrinks, and

    python tests/trust/fuzzing.py --minutes 10 [--seed 0] [--target NAME]

runs them for a time and prints how many cases each has had; a case that fails is printed with the
seed that makes it again.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from qsopt.calibration.tables import template  # noqa: E402
from qsopt.calibration.tables.folder import read_folder  # noqa: E402
from qsopt.catalog.accelerators import accelerator_names, load_cluster  # noqa: E402
from qsopt.catalog.efficiencies import ASSUMPTIONS, assuming, load_efficiency  # noqa: E402
from qsopt.catalog.folder import configs  # noqa: E402
from qsopt.catalog.huggingface import read_config  # noqa: E402
from qsopt.catalog.models import model_names  # noqa: E402
from qsopt.cli import _parsed, commands  # noqa: E402
from qsopt.cli.flags import refuse_idle, refuse_repeats  # noqa: E402
from qsopt.cli.values import part_formats, size  # noqa: E402
from qsopt.errors import InputError  # noqa: E402
from qsopt.fitted.groups import load_calibration, shipped  # noqa: E402
from qsopt.fitted.memory import load_memory_fit  # noqa: E402
from qsopt.fitted.power import load_power, load_tokens  # noqa: E402
from qsopt.fitted.server import load_server_fit  # noqa: E402
from qsopt.fitted.spread import load_spreads  # noqa: E402
from qsopt.report.proposal_folder import WHOLE, earlier  # noqa: E402
from qsopt.spec.efficiency import ideal  # noqa: E402
from qsopt.units import (  # noqa: E402
    BYTE_RATE,
    BYTES,
    COUNT,
    DOLLARS,
    LARGE,
    SECONDS,
    SHARE,
    TOKENS,
    quantity,
)

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2.5,
    float("nan"),
    float("inf"),
    1e308,
    10**12,
    10**400,
    "",
    "x",
    "1",
    "é\n\t'\"",
    "a" * 5000,
    [],
    [1],
    [[]],
    ["x", None],
    {},
    {"a": 1},
)
"""Values of a JSON file."""

ODD_TOML = (
    "nan",
    "-inf",
    "-1",
    "0",
    "1e308",
    "1e400",
    "true",
    '"x"',
    '""',
    "[]",
    "[1, 2]",
    '["x"]',
    "[[1]]",
    "{}",
    "{a = 1}",
    "2026-11-25",
    "07:30:00",
    "9" * 30,
    "0x10",
    "",
    "'",
    '"""',
    "a",
)
"""Texts after an equals sign."""

ODD_WORDS = (
    "",
    "0",
    "-1",
    "1.5",
    "nan",
    "-inf",
    "1e400",
    "1e-400",
    "128k",
    "4kk",
    "9" * 400,
    "x",
    "None",
    "/",
    ".",
    "/dev/null",
    "a/b",
    "a/b@c",
    "é",
    "\x00",
    "%s",
    "--",
    "=",
    ",",
    "a=1",
    "1:2",
    "\n",
    "٣",
    "²",
)
"""Words of a command line."""


# ---- changes -------------------------------------------------------------------------------------


def changed_text(text: str, random: Random) -> str:
    """A text with some of its lines changed."""
    lines = text.split("\n")
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(lines))
        key, equals, _ = lines[place].partition("=")
        kind = random.randrange(8)
        if kind <= 3 and equals:
            lines[place] = f"{key}= {random.choice(ODD_TOML)}"
        elif kind == 4:
            del lines[place]
            lines = lines or [""]
        elif kind == 5:
            lines.insert(place, random.choice(lines))
        elif kind == 6:
            cut = random.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:cut] + random.choice(
                ["", "\x00", "[", '"', "é", "\t.", "#"]
            )
        else:
            lines[place] = lines[place].replace(
                random.choice("aeinst_=[]1"), random.choice("xX9.]")
            )
    return "\n".join(lines)


def changed_entry(value: Any, random: Random, depth: int = 0) -> Any:
    """Nested lists and tables with one entry changed, taken away or added."""
    if isinstance(value, dict) and value and (depth == 0 or random.random() < 0.7):
        copy = dict(value)
        key = random.choice([*copy])
        kind = random.randrange(6)
        if kind == 0:
            del copy[key]
        elif kind == 1:
            copy[random.choice([f"{key}_", "experts", "num_experts", "x"])] = random.choice(ODD)
        else:
            copy[key] = changed_entry(copy[key], random, depth + 1)
        return copy
    if isinstance(value, list) and value and random.random() < 0.5:
        place = random.randrange(len(value))
        return [*value[:place], changed_entry(value[place], random, depth + 1), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.5:
        return random.choice([value + 1, value - 1, 2 * value, -value, value // 3, value * 10**9])
    return random.choice(ODD)


# ---- what must hold ------------------------------------------------------------------------------


def sound(tree: Any, *, unknown: tuple[str, ...] = ()) -> None:
    """All numbers are finite and none is negative, but for those of names that may be unknown."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        numbers = np.asarray(leaf, dtype=float)
        if not name.endswith(unknown or ("-",)):
            assert np.isfinite(numbers).all(), f"{name} = {numbers}"
            assert (numbers >= 0.0).all(), f"{name} = {numbers}"


# ---- targets -------------------------------------------------------------------------------------

Target = Callable[[Random, Path], None]


@cache
def _config(name: str) -> Any:
    return json.loads((configs() / "models" / f"{name}.json").read_text("utf-8"))


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def _names() -> list[str]:
    return list(model_names())


def model_config(random: Random, _: Path) -> None:
    """A Hugging Face config with entries changed."""
    config = _config(random.choice(_names()))
    for _change in range(random.randint(1, 3)):
        config = changed_entry(config, random)
    if isinstance(config, dict):
        sound(read_config(config))


def model_file(random: Random, folder: Path) -> None:
    """A config.json, changed as a text, with what may lie beside it."""
    text = json.dumps(_config(random.choice(_names())), indent=1)
    (folder / "config.json").write_text(changed_text(text, random).replace("= ", ": "), "utf-8")
    beside = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    if random.random() < 0.3:
        content = json.dumps(changed_entry(beside, random))
        (folder / "hf_quant_config.json").write_text(content, "utf-8")
    sound(read_config(folder))


def accelerator_file(random: Random, folder: Path) -> None:
    """A cluster of an accelerator whose file was changed."""
    chip = configs() / "hardware" / f"{random.choice(accelerator_names())}.toml"
    (folder / "chip.toml").write_text(changed_text(_text(chip), random), "utf-8")
    cluster = changed_text('devices = 8\naccelerator = "chip.toml"', random)
    whole = 'devices = 8\naccelerator = "chip.toml"'
    (folder / "cluster.toml").write_text(random.choice([whole, cluster]), "utf-8")
    found = load_cluster(folder / "cluster.toml")
    sound(found, unknown=(".price_per_hour", ".power_limit"))


def efficiency_file(random: Random, folder: Path) -> None:
    """An efficiency set."""
    sets = sorted((configs() / "efficiency").glob("*.toml"))
    (folder / "a.toml").write_text(changed_text(_text(random.choice(sets)), random), "utf-8")
    sound(load_efficiency(folder / "a.toml"))


def groups_file(random: Random, folder: Path) -> None:
    """Fitted groups: the first few of the file that ships."""
    parts = _text(shipped()).split("[[group]]")
    text = "[[group]]".join([parts[0], *random.sample(parts[1:], 2)])
    (folder / "a.toml").write_text(changed_text(text, random), "utf-8")
    for group in load_calibration(folder / "a.toml").groups:
        sound(group.pool)


def constants_file(random: Random, folder: Path) -> None:
    """Fitted constants of power, energy, memory and serving, and how far they are off."""
    name = random.choice(["power", "memory", "serving"])
    path = folder / "a.toml"
    path.write_text(changed_text(_text(shipped(name)), random), "utf-8")
    readers: dict[str, tuple[Callable[[Path], object], ...]] = {
        "power": (load_power, load_tokens, load_spreads),
        "memory": (load_memory_fit,),
        "serving": (load_server_fit, load_spreads),
    }
    for reader in readers[name]:
        reader(path)


SCHEMAS = [each for each in vars(template).values() if isinstance(each, template.Schema)]
NAMES = {
    "gpu": ("h100_sxm", "H100", "b200", "no-such"),
    "model": ("llama-3.1-8b", "Qwen3-30B-A3B", "deepseek-v3", "no-such"),
    "backend": ("vllm", "trtllm", "sglang", "other"),
    "op": ("all_reduce", "all_gather", "x"),
    "phase": ("dispatch", "combine", "x"),
    "distribution": ("balanced", "power_law_1.2", "power_law_", "x"),
    "impl": ("nccl", "custom", "deepep"),
    "metric": ("output_tok_s", "total_tok_s", "x"),
    "software": ("vllm", "sglang"),
    **dict.fromkeys(
        ("dtype", "kv_dtype", "attention_dtype", "comm_dtype", "precision"),
        ("bfloat16", "fp8", "nvfp4", "auto", "x"),
    ),
}


def tables(random: Random, folder: Path) -> None:
    """A folder of measured tables, known by their columns."""
    for number in range(random.randint(1, 2)):
        schema = random.choice(SCHEMAS)
        columns = [each.name for each in schema.columns if each.needed or random.random() < 0.3]
        columns = [each for each in columns if random.random() < 0.98]
        rows = [[_cell(name, random) for name in columns] for _ in range(random.randint(0, 4))]
        lines = [",".join(row) for row in [columns, *rows]]
        if random.random() < 0.2:
            lines = changed_text("\n".join(lines), random).split("\n")
        (folder / f"{number}.csv").write_text("\n".join(lines), "utf-8")
    found = read_folder(folder)
    for points in found.points:
        assert np.isfinite(points.seconds).all()
        assert (points.seconds > 0.0).all()


def _cell(name: str, random: Random) -> str:
    if random.random() < 0.03:
        return random.choice(["", "nan", "inf", "-1", "0", "x", "1e400", '"', "9" * 30, "1.5"])
    if name in NAMES:
        return random.choice(NAMES[name])
    return str(
        random.choice([1, 2, 4, 8, 64, 128, 512, 1024, 4096]) * random.choice([1, 1, 1, 0.5])
    )


def proposals(random: Random, folder: Path) -> None:
    """The record of a folder of proposals."""
    record = {"inputs": {"cluster": "1xh100", "seed": 0}, "complete": False, "proposals": []}
    text = json.dumps(changed_entry(record, random), indent=1)
    (folder / WHOLE).write_text(changed_text(text, random) if random.random() < 0.3 else text)
    earlier(folder, {"cluster": "1xh100", "seed": 0})


def words(random: Random, _: Path) -> None:
    """Texts of single flags: numbers with units, clusters, sizes, formats, assumptions."""
    parts = ["8", "x", "2x", "h100", "k", "ms", "GB/s", "1e3", "-", ".", " ", "=", ",", *ODD_WORDS]
    text = "".join(random.choice(parts) for _ in range(random.randint(1, 4)))
    unit = random.choice([BYTE_RATE, BYTES, COUNT, DOLLARS, LARGE, SECONDS, SHARE, TOKENS])
    readers: list[Callable[[], object]] = [
        lambda: quantity(text, unit),
        lambda: sound(load_cluster(text), unknown=(".price_per_hour", ".power_limit")),
        lambda: size("dcp", text, {"any": None}),
        lambda: part_formats(text),
        lambda: sound(assuming(ideal(), f"{random.choice(ASSUMPTIONS)}={text}")),
    ]
    random.choice(readers)()


def command_line(random: Random, folder: Path) -> None:
    """Words of a command line, up to where it would compute."""
    name = random.choice(["evaluate", "compare", "serve", "crossover", "map", "sensitivity"])
    usual = {"--model": "olmoe-1b-7b", "--cluster": "1xh100", "--context": "4096"}
    flags = {key: value for key, value in usual.items() if random.random() < 0.95}
    known = _flags(name)
    for _ in range(random.randint(0, 4)):
        flags[random.choice(known)] = random.choice([*ODD_WORDS, "2", "0.5", "olmoe-1b-7b", "fp8"])
    line = [name, *(word for pair in flags.items() for word in pair)]
    if random.random() < 0.2:
        line.insert(random.randrange(len(line) + 1), random.choice(ODD_WORDS))
    _loaded(line)


@cache
def _flags(name: str) -> list[str]:
    kind = commands.load(name)
    return [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kind)]


def _loaded(line: list[str]) -> None:
    try:
        command = _parsed(line)
    except SystemExit:  # help was asked for
        return
    refuse_repeats(line)
    refuse_idle(command)
    model, service = command.load()
    command.inquiry(model, service)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        model_config,
        model_file,
        accelerator_file,
        efficiency_file,
        groups_file,
        constants_file,
        tables,
        proposals,
        words,
        command_line,
    )
}
"""By name."""


def survives(target: Target, random: Random, folder: Path) -> bool:
    """Run one case; whether it was answered, not refused.

    Raises:
        AssertionError: if a refusal is no line that says something, or a number is not sound.
    """
    for file in folder.iterdir():
        file.unlink()
    try:
        target(random, folder)
    except InputError as error:
        assert 10 < len(str(error)) < 4000, str(error)[:200]
        return False
    return True


def campaign(minutes: float, seed: int, names: list[str]) -> int:
    """Run targets in turn for a time, or until Ctrl-C; print the cases of each, and what failed.

    Returns:
        The number of kinds of failures.
    """
    warnings.simplefilter("error")
    cases, answered, seen = dict.fromkeys(names, 0), dict.fromkeys(names, 0), set()
    end = time.process_time() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        while time.process_time() < end:
            for name in [name for name in names for _ in range(50)]:
                one = f"{seed}/{cases[name]}"
                cases[name] += 1
                try:
                    answered[name] += survives(TARGETS[name], Random(one), Path(folder))
                except Exception as error:
                    _tell(name, one, error, seen)
    for name in names:
        print(f"{name:18} {cases[name]:9,} cases, {answered[name]:9,} answered")
    print(f"{'all':18} {sum(cases.values()):9,} cases, {len(seen)} kinds of failures")
    return len(seen)


def _tell(name: str, one: str, error: Exception, seen: set[tuple[str, str, str]]) -> None:
    """Print the first failure of a kind: where it was raised, and which case."""
    own = [each for each in traceback.extract_tb(error.__traceback__) if "qsopt" in each.filename]
    at = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    kind = (name, type(error).__name__, at)
    if kind not in seen:
        seen.add(kind)
        print(f"{name} {one}: {at}: {type(error).__name__}: {str(error)[:200]}", flush=True)


def main() -> int:
    """Run the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=[*TARGETS], action="append")
    asked = parser.parse_args()
    return min(1, campaign(asked.minutes, asked.seed, asked.target or [*TARGETS]))


if __name__ == "__main__":
    sys.exit(main())
