"""The package as others get it: a wheel that works by itself, imports that only point down, texts
fit for publication.
"""

import ast
import email
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qsopt"

# ---- wheel ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("dist")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, timeout=120)
    return folder


def run_installed(site: Path, code: str) -> str:
    """What code prints that runs outside the checkout with the installed wheel before everything
    else.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "XDG_CACHE_HOME": str(site.parent / "cache"),
    }
    command = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=site, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


INSTALLED = """
import json, pathlib, sys
import qsopt
from qsopt.cli import main
assert pathlib.Path(qsopt.__file__).is_relative_to(sys.path[0]), qsopt.__file__
assert float(qsopt.load_cluster("8xmi300x").devices) == 8
assert float(qsopt.load_efficiency("fitted").reserve_bytes) > 0
assert main(["list", "models", "--json"]) == 0
"""


def test_installed_wheel_holds_the_catalog(site: Path) -> None:
    printed = run_installed(site, INSTALLED)
    names = set(re.findall(r'"name": "([^"]+)"', printed))
    assert names == {path.stem for path in (ROOT / "configs" / "models").glob("*.json")}


def test_wheel_holds_what_it_should_and_nothing_else(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    catalog = {
        f"qsopt/{path.relative_to(ROOT)}"
        for folder in ("models", "hardware", "efficiency")
        for path in (ROOT / "configs" / folder).rglob("*")
        if path.is_file()
    }
    assert modules | catalog <= held
    configs = {name for name in held if name.startswith("qsopt/configs/")}
    assert configs == catalog, "settings of experiments stay in the repository"
    beside = {name.split("/")[0] for name in held} - {"qsopt"}
    assert [re.fullmatch(r"qsopt-.*\.dist-info", name) is not None for name in beside] == [True]
    assert any(name.endswith("/licenses/LICENSE") for name in held)
    assert not any("__pycache__" in name for name in held)


LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)]+)\)")


def test_metadata_has_a_page_that_also_works_on_a_package_index(wheel: Path) -> None:
    """Every picture and link of the README is absolute, and points at a file of the repository."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    urls = dict(url.split(", ", 1) for url in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Homepage", "Documentation", "Issues", "Changelog", "Paper"}
    page = metadata.get_payload()
    assert isinstance(page, str)
    links = LINK.findall(page)
    assert len(links) == len(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    raw = urls["Homepage"].replace("://github.com/", "://raw.githubusercontent.com/") + "/main/"
    for picture, target in links:
        base = raw if picture else f"{urls['Homepage']}/blob/main/"
        inside = target.removeprefix(base).partition("#")[0]
        assert target.startswith(("https://", "#")), target
        assert target == inside or (ROOT / inside).exists() or not inside, target
    assert any(picture for picture, _ in links)


def test_lowest_versions_are_those_that_are_claimed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = dict(line.split(">=") for line in project["dependencies"])
    lines = (ROOT / "constraints" / "lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert lowest.pop("jaxlib") == lowest["jax"]
    assert lowest.pop("pyparsing")  # of matplotlib
    beartype = lowest.pop("beartype").removesuffix(".0")
    assert f"beartype>={beartype}" in project["optional-dependencies"]["dev"]
    assert lowest.keys() == claimed.keys()
    for name, version in lowest.items():
        assert f"{version}.0".startswith(f"{claimed[name]}."), name


def test_every_dependency_is_pinned_with_its_digests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    text = (ROOT / "constraints" / "hashed.txt").read_text()
    assert "://" not in text
    pins = {}
    for pin in re.findall(r"^(\S+==\S+) \\\n((?:    --hash=.*\n?)+)", text, re.MULTILINE):
        name, version = pin[0].split("==")
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", pin[1]), name
        pins[name] = Version(version)
    assert len(pins) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    for each in map(Requirement, wanted):
        name = each.name.lower().replace("_", "-")
        assert each.specifier.contains(pins[name]), each


# ---- import --------------------------------------------------------------------------------------


def test_import_is_silent_and_sets_nothing() -> None:
    code = (
        "import qsopt, jax, sys; assert not jax.config.jax_enable_x64; assert 'matplotlib' not "
        "in sys.modules"
    )
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("JAX_ENABLE_X64", "XLA_FLAGS")
    }
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        f"import os; before = dict(os.environ); {code}; assert before == os.environ",
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- layers --------------------------------------------------------------------------------------

LAYERS = (
    (
        "units",
        "arrays",
        "errors",
        "files",
        "interrupts",
        "record",
        "precision",
        "program_store",
        "programs",
        "version",
        "xp",
    ),
    ("spec",),
    ("catalog",),
    ("physics",),
    ("quality",),
    ("deployments",),
    ("serving",),
    ("fitted",),
    ("slopes", "comparison"),
    ("lifetimes",),
    ("maps", "claims"),
    ("search",),
    ("proposals",),
    ("calibration",),
    ("report",),
    ("api",),
    ("cli",),
)
"""Rooms from the ground up. Every room has its place here; imports point down."""

TOP = {"report", "api", "cli"}


@cache
def modules() -> dict[str, Path]:
    """Dotted names and files of all modules."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, inside functions too, submodules by their own name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else str(node.module)


@cache
def graph() -> dict[str, frozenset[str]]:
    """Which of our modules each module imports."""
    return {
        name: frozenset(found for found in imports(path) if found in modules())
        for name, path in modules().items()
    }


def part(name: str) -> str:
    """The module or package directly below qsopt."""
    return name.split(".")[1] if "." in name else name


def test_imports_have_no_cycle() -> None:
    order = TopologicalSorter(
        {name: found - {name} for name, found in graph().items()}
    ).static_order()
    assert set(order) == set(modules())


def test_packages_have_no_cycle() -> None:
    """Stronger than the above: seen from outside, a package is one thing."""
    parts: dict[str, set[str]] = {}
    for name, found in graph().items():
        parts.setdefault(part(name), set()).update(part(other) for other in found)
    for name, found in parts.items():
        found.discard(name)
    tuple(TopologicalSorter(parts).static_order())


def test_imports_point_down() -> None:
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    assert set(height) == {part(name) for name in modules()} - {"qsopt"}
    wrong = [
        f"{name} imports {other}"
        for name, found in graph().items()
        for other in found
        if part(name) != part(other)
        and part(name) in height
        and height.get(part(other), -1) > height[part(name)]
    ]
    assert not wrong


def test_nothing_below_imports_the_top() -> None:
    for name, found in graph().items():
        if part(name) not in TOP | {"qsopt"}:  # whose names are those of `api`
            assert not {other for other in found if part(other) in TOP}, name
        if part(name) != "cli":
            assert not {other for other in found if part(other) == "cli"}, name
        assert part(name) == "qsopt" or "qsopt" not in found, f"{name} imports the public names"


def test_package_imports_no_experiments_and_no_tests() -> None:
    for name, path in modules().items():
        assert not {found.split(".")[0] for found in imports(path)} & {
            "experiments",
            "tests",
            "pytest",
            "hypothesis",
        }, name


def test_ground_does_not_start_jax_for_errors_and_units() -> None:
    """Bad input is refused before anything slow is imported where that is possible."""
    for name in ("errors", "units"):
        assert not any(
            found.split(".")[0] in ("jax", "equinox", "numpy")
            for found in imports(PACKAGE / f"{name}.py")
        )


# ---- sizes ---------------------------------------------------------------------------------------

LONGEST_FILE, LONGEST_BODY = 300, 40


def written() -> list[Path]:
    """Files of the package and of its experiments."""
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])


def test_no_file_is_long_without_a_reason() -> None:
    """The reason stands in its first docstring."""
    for path in written():
        text = path.read_text(encoding="utf-8")
        reason = "is long because" in (ast.get_docstring(ast.parse(text)) or "")
        assert text.count("\n") <= LONGEST_FILE or reason, path


def test_no_function_is_long() -> None:
    """Lines of a body, without its docstring."""
    for path in written():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                assert lines <= LONGEST_BODY, f"{path}: {node.name} has {lines} lines"


def test_slow_cases_are_cases() -> None:
    """Every line of slow.txt names a test that is there, and stands once."""
    lines = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) > 10
    for line in lines:
        path, _, case = line.partition("::")
        name = case.partition("[")[0]
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), line


# ---- texts ---------------------------------------------------------------------------------------

PRIVATE = re.compile(r"/(?:work|root|tmp)/|file://|localhost")
TEXTS = {".py", ".md", ".toml", ".json", ".cff", ".yaml", ".yml", ".csv", ".txt", ".sh", ""}


def published() -> list[Path]:
    """Files of the project, as git has them or, without git, as they lie; tests apart."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        paths = [
            path
            for folder in ("qsopt", "configs", "experiments", "examples", "docs")
            for path in (ROOT / folder).rglob("*")
        ]
        paths += ROOT.glob("*.*")
    return [
        path
        for path in paths
        if path.is_file() and path.suffix in TEXTS and "tests" not in path.relative_to(ROOT).parts
    ]


def test_no_paths_of_a_machine() -> None:
    paths = published()
    assert len(paths) > 100
    wrong = {
        str(path.relative_to(ROOT)): found.group()
        for path in paths
        if (found := PRIVATE.search(path.read_text(encoding="utf-8")))
    }
    assert not wrong
