"""What the package shows of itself: its public names and no others, its version, its types."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qsopt
from qsopt.cli import main

ROOT = Path(__file__).parents[2]


def test_dir_lists_the_public_names_and_nothing_else() -> None:
    assert dir(qsopt) == sorted(qsopt.__all__)
    assert {"optimize", "evaluate", "compare", "sensitivity", "InputError"} <= set(dir(qsopt))
    for name in qsopt.__all__:
        assert getattr(qsopt, name) is not None
        assert not isinstance(getattr(qsopt, name), type(sys)), f"{name} is a module"


def test_the_search_is_loaded_when_asked_for() -> None:
    code = (
        "import sys, qsopt\n"
        "assert 'optax' not in sys.modules and 'matplotlib' not in sys.modules\n"
        "assert callable(qsopt.optimize) and callable(qsopt.sensitivity)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120, cwd=ROOT)


def test_no_public_name_is_that_of_a_module_too() -> None:
    """`import qsopt.sensitivity` would otherwise give the function, or hide it."""
    modules = {module.name for module in pkgutil.iter_modules(qsopt.__path__)}
    assert {"slopes", "search", "comparison"} <= modules
    assert modules.isdisjoint(qsopt.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="optimise"):
        qsopt.optimise  # noqa: B018


def test_the_version_is_told_once_and_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", qsopt.__version__)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qsopt {qsopt.__version__}\n"
    assert f"version: {qsopt.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_types_ship() -> None:
    assert (ROOT / "qsopt" / "py.typed").is_file()
