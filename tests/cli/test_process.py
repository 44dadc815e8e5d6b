"""What surrounds a command: the environment, the cache of compiled programs, where its answer goes,
and flags that would be passed over in silence.
"""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qsopt.cli
from qsopt.cli import program_files, runtime
from qsopt.cli.program_files import WholeEntries
from qsopt.errors import InputError

Run = Callable[..., Any]

ROOT = Path(__file__).parents[2]
EVALUATE = "evaluate --model olmoe-1b-7b --cluster 1xh100 --context 4096 --batch 8"
COMPARE = "compare --model olmoe-1b-7b --cluster 1xh100"
OPTIMIZE = "optimize --like mixtral-8x7b --cluster 8xh200 --context 4096"


def process(
    command: str, prelude: str = "", stdout: Any = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    code = f"import sys\n{prelude}\nfrom qsopt.cli import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
    )


# ---- the environment -----------------------------------------------------------------------------


def test_no_answer_depends_on_the_variables_of_jax(run: Run) -> None:
    done = process(
        f"{EVALUATE} --json",
        JAX_ENABLE_X64="perhaps",
        JAX_DEBUG_NANS="1",
        JAX_NUMPY_RANK_PROMOTION="raise",
        JAX_DISABLE_JIT="yes please",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == run(f"{EVALUATE} --json").record


@pytest.mark.parametrize(
    ("name", "value"), [("JAX_PLATFORMS", "abacus"), ("XLA_FLAGS", "--xla_no_such_flag=1")]
)
def test_what_jax_does_not_have_is_refused(name: str, value: str) -> None:
    done = process(EVALUATE, **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {name} = {value}: ")
    assert done.stderr.count("\n") == 1


NOBODY = """
import os, pwd
for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
    os.environ.pop(name, None)
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
"""


@pytest.mark.slow
def test_a_user_without_a_home_has_an_answer_and_no_cache(tmp_path: Path) -> None:
    plot = tmp_path / "a.png"
    command = "serve --model olmoe-1b-7b --cluster 1xh100 --prompt 512 --answer 64"
    done = process(f"{command} --plot {plot}", NOBODY)
    assert (done.returncode, done.stderr) == (0, "")
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [plot]


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = process("list laws --json", stdout=full)
    assert done.returncode == 2
    assert (
        done.stderr == "error: the answer cannot be written (No space left on device); make room\n"
    )


def test_too_little_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(qsopt.cli, "_run", exhausted)
    outcome = run(EVALUATE)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "not enough memory" in outcome.err


# ---- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qsopt" / "compiled"


def test_the_cache_is_closed_to_others(cache: Path) -> None:
    cache.mkdir(parents=True)
    for folder in (cache, cache.parent):
        folder.chmod(0o777)
    assert program_files.own_folder() == cache
    for folder in (cache, cache.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_cache_of_somebody_else_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_files.own_folder() == cache
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert program_files.own_folder() is None


def test_a_link_is_no_cache(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    assert program_files.own_folder() is None


def test_entries_are_whole_or_not_there(cache: Path) -> None:
    cache.mkdir(parents=True)
    entries = WholeEntries(cache)
    assert entries.get("a") is None
    entries.put("a", b"program")
    assert entries.get("a") == b"program"
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-1] + b"M", whole + b" ", b"program"):
        file.write_bytes(damaged)
        assert entries.get("a") is None
        assert not file.exists(), "it is dropped"
    entries.put("b", b"program")
    file.write_bytes((cache / "b-whole").read_bytes())
    assert entries.get("a") is None, "the entry of another key"


def test_what_was_used_longest_ago_goes_first(cache: Path) -> None:
    cache.mkdir(parents=True)
    entries = WholeEntries(cache)
    for place, key in enumerate("abcd"):
        entries.put(key, bytes(100))
        os.utime(cache / f"{key}-whole", (place, place))
    (cache / "of-others").write_bytes(bytes(1000))
    assert entries.get("a") == bytes(100), "used now"
    program_files.prune(cache, most=250.0)
    assert sorted(file.name for file in cache.iterdir()) == ["a-whole", "d-whole", "of-others"]


def test_a_command_prunes_what_it_begins_with(tmp_path: Path) -> None:
    old = tmp_path / "qsopt" / "compiled" / "old-whole"
    old.parent.mkdir(parents=True)
    for most, kept in (("1e6", True), ("10.0", False)):
        old.write_bytes(bytes(100))
        prelude = f"from qsopt.cli import program_files; program_files.MOST = {most}"
        done = process("list laws --json", prelude, XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0
        assert old.exists() == kept


@pytest.mark.slow
def test_a_damaged_cache_is_made_anew_in_silence(tmp_path: Path) -> None:
    def cached() -> subprocess.CompletedProcess[str]:
        return process(f"{EVALUATE} --json", XDG_CACHE_HOME=str(tmp_path))

    first = cached()
    entries = sorted((tmp_path / "qsopt" / "compiled").iterdir())
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    second = cached()
    assert (second.returncode, second.stderr, second.stdout) == (0, "", first.stdout)
    for entry in entries[0].parent.iterdir():
        assert WholeEntries(entry.parent).get(entry.name.removesuffix("-whole")), "whole again"


def test_a_cache_on_a_full_disk_changes_no_answer(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache.mkdir(parents=True)
    monkeypatch.setattr(Path, "write_bytes", full)
    WholeEntries(cache).put("a", b"program")
    assert list(cache.iterdir()) == []


def test_variables_are_kept_where_jax_has_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_DEBUG_NANS", "0")
    runtime.configure()
    assert os.environ["JAX_DEBUG_NANS"] == "0"


# ---- flags ---------------------------------------------------------------------------------------

REQUESTS = "--prompt 1k --answer 1k"
CROSSOVER = "crossover --model olmoe-1b-7b --cluster 1xh100 --from 1 --to 10"

IDLE = {
    f"{EVALUATE} --context 8192": "--context stands there twice",
    f"{EVALUATE} --tp 1 --tp=2": "--tp stands there twice",
    f"{EVALUATE} --json --no-json": "--json stands there twice",
    f"{EVALUATE} --kv-dtype fp8 --kv_dtype bf16": "--kv-dtype stands there twice",
    f"{EVALUATE} --acceptance 0.5": "acceptance = 0.5: nothing is drafted",
    f"{EVALUATE} --encoder-context 1k": "encoder_context",
    f"serve --model olmoe-1b-7b --cluster 1xh100 {REQUESTS} --q 2": "q = 2.0: one model",
    f"{COMPARE} {REQUESTS} --seed 3": "seed = 3: nothing is drawn",
    f"{COMPARE} --context 4096 --q 2 --law tian": "law = tian: q is given",
    f"{COMPARE} --context 4096 --q 2 --tokens 1T": "tokens",
    f"{COMPARE} --context 4096 --dense llama-3.1-8b --law tian": "law = tian: q is given",
    f"{COMPARE} --context 4096 --dense llama-3.1-8b --twin same-body": "the dense model",
    f"{CROSSOVER} --over q --q 3": "q = 3.0: it moves",
    f"{CROSSOVER} --context 4096": "context = 4096.0: it moves",
    f"{CROSSOVER} --over tpot --tpot-ms 20": "tpot_ms = 20.0: it moves",
    "map --model olmoe-1b-7b --cluster 1xh100 --x q --q 3": "q = 3.0: it moves",
    f"map --model olmoe-1b-7b --cluster 1xh100 {REQUESTS} --y load --load 0.3": "it moves",
    f"{OPTIMIZE} --tp 2": "tp = 2: it varies",
    f"{OPTIMIZE} --batch 32": "batch = 32: it varies",
}

ILLEGAL = {
    f"{OPTIMIZE} --vary experts --tp 3": "tp = 3 does not divide the attention heads",
    f"{OPTIMIZE} --vary experts --tp 1.5": "tp = 1.5: give a whole number",
    f"{OPTIMIZE} --vary experts --batch 0": "batch = 0: give a whole number",
    f"{OPTIMIZE} --vary experts --tp 8 --dp 4": "tp * dp * pp = 32 devices",
    f"{OPTIMIZE} --vary experts,batch --ep 5": "parallel sizes",
    f"{OPTIMIZE} --max-total nan": "max_total = nan: give a positive number",
    f"{OPTIMIZE} --max-active -1": "max_active = -1",
    f"{OPTIMIZE} --seed -1": "seed = -1",
    f"{OPTIMIZE} --starts 0": "starts = 0",
    f"{OPTIMIZE} --starts 1000000": "4,096",
    f"{OPTIMIZE} --certify nan": "certify = nan",
    f"{OPTIMIZE} --certify 1e12": "certify = 1e+12",
    f"{COMPARE} --context 4096 --seed 99999999999": "seed",
    f"lifetime --model olmoe-1b-7b --cluster 1xh100 {REQUESTS} --seed -1": "seed = -1",
    "propose --quality-of olmoe-1b-7b --cluster 1xh100 --context 4096 --seed -1": "seed = -1",
    "calibrate --draws -1": "draws = -1",
    "calibrate --draws 1000000000": "10,000",
    "calibrate --shapes 0": "shapes = 0",
    "calibrate --out /proc/none": "cannot be written",
    "propose --quality-of olmoe-1b-7b --cluster 1xh100 --context 4k --out /proc/none": "written",
    f"{COMPARE} --context 4096 --plot /proc/none/a.png": "cannot be written",
    f"{EVALUATE} --utilization 1.0000001": "utilization = 1.0000001: give",
    f"{CROSSOVER} --over bandwidth".replace("--from 1", "--from -inf"): "from = -inf",
    "map --model olmoe-1b-7b --cluster 1xh100 --x-from -inf --x-to 10": "positive numbers",
    "map --model olmoe-1b-7b --cluster 1xh100 --x-points 1000000": "2 to 1000",
}


@pytest.mark.parametrize("command", [*IDLE, *ILLEGAL])
def test_what_changes_nothing_or_has_no_meaning_is_refused(run: Run, command: str) -> None:
    outcome = run(command, as_is=True)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert (IDLE | ILLEGAL)[command] in outcome.err


@pytest.mark.parametrize("vary", ["", ",", " , "])
def test_nothing_to_vary_is_refused(run: Run, vary: str) -> None:
    outcome = run(*OPTIMIZE.split(), "--vary", vary)
    assert outcome.status == 2
    assert "name something" in outcome.err


@pytest.mark.parametrize("name", ["model", "cluster", "efficiency"])
@pytest.mark.parametrize("path", ["/dev/zero.toml", "pipe"])
def test_pipes_and_devices_are_no_inputs(run: Run, tmp_path: Path, name: str, path: str) -> None:
    file = tmp_path / ("config.json" if name == "model" else "a.toml")
    if path == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    words = {"model": "olmoe-1b-7b", "cluster": "1xh100", "efficiency": "ideal", name: str(file)}
    flags = [word for key, value in words.items() for word in (f"--{key}", value)]
    outcome = run("evaluate", *flags, "--context", "4096")
    assert outcome.status == 2
    assert "no regular file" in outcome.err


def test_a_long_error_keeps_where_and_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"{'a' * 900_000} = 3\n")
    outcome = run(f"{EVALUATE} --efficiency {tmp_path / 'a.toml'}")
    assert len(outcome.err) < 4000
    assert f"error: {tmp_path / 'a.toml'}: unknown entry 'aaa" in outcome.err
    assert "characters] " in outcome.err
    with pytest.raises(InputError, match="characters"):
        raise InputError("b" * 10_000)
