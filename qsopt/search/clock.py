"""Time that JAX spends on tracing and compiling, so that searches can state it apart from their
own.
"""

import jax

_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class CompileClock:
    """Seconds of compilation in this process since the clock was made."""

    _total = 0.0
    _listening = False

    def __init__(self) -> None:
        if not CompileClock._listening:
            jax.monitoring.register_event_duration_secs_listener(_count)
            CompileClock._listening = True
        self._start = CompileClock._total

    @property
    def seconds(self) -> float:
        """So far; nested traces are counted in each other, so it is an upper bound."""
        return CompileClock._total - self._start


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    if event in _EVENTS:
        CompileClock._total += duration_secs
