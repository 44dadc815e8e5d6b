"""Array functions that are NumPy's where no argument is of JAX, and else JAX's.

Formulas are written once, by these names. Inside of `jax.jit`, `jax.grad` and `jax.vmap` they are
formulas of JAX. Of NumPy's numbers they give NumPy's, in float64, and nothing is traced or
compiled: the first answer of a process comes from there. NumPy broadcasts where JAX maps, so a
formula of one design takes a batch of them too, each field a number or as long as the batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_PLAIN = frozenset({float, int, bool, np.float64, np.ndarray, np.bool_, np.int32, np.int64})
"""Types of most arguments that are not of JAX."""


def is_of_jax(*values: Any) -> bool:
    """Whether one of some values, or of the values in a list of them, is an array of JAX, traced or
    not.
    """
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is list or kind is tuple:
            if is_of_jax(*value):
                return True
        elif isinstance(value, jax.Array):
            return True
    return False


def any_of_jax(tree: Any) -> bool:
    """Whether a leaf of a pytree is an array of JAX, traced or not."""
    return is_of_jax(*jax.tree.leaves(tree))


def _either(name: str) -> Callable[..., Any]:
    plain, traced = getattr(np, name), getattr(jnp, name)

    def function(*args: Any, **options: Any) -> Any:
        return traced(*args, **options) if is_of_jax(*args) else plain(*args, **options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` of NumPy or of JAX."
    return function


abs = _either("abs")
all = _either("all")
any = _either("any")
arctan2 = _either("arctan2")
argmax = _either("argmax")
asarray = _either("asarray")
broadcast_to = _either("broadcast_to")
ceil = _either("ceil")
clip = _either("clip")
exp = _either("exp")
exp2 = _either("exp2")
floor = _either("floor")
full_like = _either("full_like")
log = _either("log")
log10 = _either("log10")
log1p = _either("log1p")
log2 = _either("log2")
max = _either("max")
maximum = _either("maximum")
mean = _either("mean")
min = _either("min")
minimum = _either("minimum")
ones_like = _either("ones_like")
round = _either("round")
sin = _either("sin")
sqrt = _either("sqrt")
stack = _either("stack")
sum = _either("sum")
var = _either("var")
where = _either("where")
zeros_like = _either("zeros_like")

inf = np.inf
arange: Any = np.arange
finfo: Any = np.finfo
int32: Any = np.int32


def zeros(shape: int | tuple[int, ...], dtype: type = float) -> Any:
    """Zeros of NumPy; a number where there are no dimensions."""
    return np.zeros(shape, dtype)[()]


def ones(shape: int | tuple[int, ...], dtype: type = float) -> Any:
    """Ones of NumPy; a number where there are no dimensions."""
    return np.ones(shape, dtype)[()]


def stop_gradient(value: Any) -> Any:
    """The value, as a constant for derivatives."""
    return lax.stop_gradient(value) if is_of_jax(value) else value


def fori_loop(low: int, high: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """`lax.fori_loop`; a loop of Python where the state is not of JAX."""
    if any_of_jax(state):
        return lax.fori_loop(low, high, body, state)
    for index in range(low, high):
        state = body(index, state)
    return state


def while_loop(is_open: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    """`lax.while_loop`; a loop of Python where the state is not of JAX."""
    if any_of_jax(state):
        return lax.while_loop(is_open, body, state)
    while is_open(state):
        state = body(state)
    return state


def top_k(values: Any, count: int) -> tuple[Any, Any]:
    """The largest few of a list and their places, the first among equals."""
    if is_of_jax(values):
        return lax.top_k(values, count)
    places = np.argsort(-values, kind="stable")[:count]
    return values[places], places


def with_rows(table: Any, places: Any, rows: Any) -> Any:
    """The table with some rows written anew; of places behind its end, none."""
    if is_of_jax(table, places, rows):
        return jnp.asarray(table).at[places].set(rows, mode="drop")
    written, inside = table.copy(), places < len(table)
    written[places[inside]] = rows[inside]
    return written
