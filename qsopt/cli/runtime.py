"""Settings of the process that must be made before JAX starts: float64, a fast compiler, and a
cache of what it made; and what the environment says otherwise, which no answer may depend on.

A command runs each compiled function a few times, so time to the first answer counts: the
compiler's cheapest settings halve it. They are used where the process has none of its own, and only
with versions of jaxlib that are known to know them.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path

from qsopt.cli import program_files
from qsopt.errors import InputError

_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
_KNOWN = ("0.10.",)

_HONOURED = ("JAX_PLATFORMS",)
"""Variables of JAX that a command keeps. Others change precision, promotion or checks (as
JAX_ENABLE_X64, JAX_NUMPY_RANK_PROMOTION and JAX_DEBUG_NANS do), and so answers or whether there are
any.
"""


def configure(*, quick: bool = True) -> None:
    """Make the settings.

    Args:
        quick: whether compiling costs more than it gains.

    Raises:
        InputError: if the environment asks JAX for what it does not have.
    """
    _forget_variables()
    own = os.environ.get("XLA_FLAGS")
    if quick:
        compile_in_haste()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "jax" not in sys.modules:
        _check_flags(own)
    import jax  # noqa: PLC0415  (reads the environment when imported)

    jax.config.update("jax_enable_x64", True)
    _check_platforms()
    folder = program_files.own_folder()
    if folder is not None:
        program_files.use(folder)


def reading_ahead(words: Sequence[str]) -> AbstractContextManager[None]:
    """While a command runs, read the programs that it is likely to ask for: those of the last one
    of the same words, whatever the numbers among them, or else of the same name.
    """
    from qsopt import program_store  # noqa: PLC0415

    said = [word for word in words if not _is_number(word)]
    return program_store.reading_ahead(" ".join(said), " ".join(said[:1]))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def compile_in_haste() -> None:
    """The compiler's cheapest settings, before JAX is imported; for versions that know them."""
    if "XLA_FLAGS" not in os.environ and version("jaxlib").startswith(_KNOWN):
        os.environ["XLA_FLAGS"] = _QUICK


def _forget_variables() -> None:
    """Leave only variables that are honoured, before JAX and matplotlib read them."""
    for name in [] if "jax" in sys.modules else [*os.environ]:
        if name.startswith("JAX_") and name not in _HONOURED:
            del os.environ[name]
    os.environ["MPLBACKEND"] = "agg"
    try:
        Path.home()
    except RuntimeError:  # matplotlib would fail where nobody knows the home
        if "MPLCONFIGDIR" not in os.environ:
            os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp()
            atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)


def _check_flags(flags: str | None) -> None:
    """Try flags of one's own in another process, as the compiler ends a process on one that it does
    not know.
    """
    if flags in (None, "", _QUICK):
        return
    code = "import jax; jax.devices()"
    tried = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0 and "XLA_FLAGS" in tried.stderr:
        raise InputError(
            f"XLA_FLAGS = {flags[:200]}: the compiler of JAX does not take it; correct or remove it"
        )


def _check_platforms() -> None:
    """Start JAX on the platform that is asked for.

    Raises:
        InputError: if there is none.
    """
    platforms = os.environ.get("JAX_PLATFORMS")
    if not platforms:
        return
    import jax  # noqa: PLC0415

    try:
        jax.devices()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"JAX_PLATFORMS = {platforms[:60]}: JAX cannot start ({reason}); remove it, or take cpu"
        ) from None
