"""Settings of the process that must be made before JAX starts: float64, a fast compiler, and a
cache of what it made.

A command runs each compiled function a few times, so time to the first answer counts: the
compiler's cheapest settings halve it. They are used where the process has none of its own, and only
with versions of jaxlib that are known to know them.
"""

import os
from importlib.metadata import version
from pathlib import Path

_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
_KNOWN = ("0.10.",)


def configure(*, quick: bool = True) -> None:
    """Make the settings.

    Args:
        quick: whether compiling costs more than it gains.
    """
    if quick:
        compile_in_haste()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax  # noqa: PLC0415  (reads the environment when imported)

    jax.config.update("jax_enable_x64", True)
    cache = _cache()
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def compile_in_haste() -> None:
    """The compiler's cheapest settings, before JAX is imported; for versions that know them."""
    if "XLA_FLAGS" not in os.environ and version("jaxlib").startswith(_KNOWN):
        os.environ["XLA_FLAGS"] = _QUICK


def _cache() -> Path | None:
    """The folder for what was compiled, or None where it cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qsopt" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
