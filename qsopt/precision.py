"""One precision for every answer: float64, whatever the process works in, under any transformation.

JAX works in float32 unless told otherwise, and that is too little here: the largest batch of a
layout may be a whole number beyond 2**24, and winners are told apart at 1e-9. So every public
function computes inside `jax.enable_x64(True)`. In a process that works in float32, concrete
arguments give concrete answers, as NumPy numbers in float64; traced ones are widened on the way in
and narrowed on the way out, so `jit`, `grad` and `vmap` see a function in float32.

Three properties of JAX (0.8 to 0.10) make this safe, or not:

* Compiled functions are cached by the precision as well as by their arguments: nothing is shared.
* The form that JAX gives a NumPy array is remembered by the identity of the array, without the
  precision. An array that was seen in one precision must never be seen in the other, or float32
  and float64 meet in one program ("Cannot lower jaxpr", "RuntimeProgramInputMismatch"). So arrays
  are copied on both ways. NumPy scalars are not remembered (see `arrays.scalar`).
* The precision belongs to a thread: a thread that computes must ask for it (`same_precision`).
"""

import dataclasses
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax import lax
from jax.core import Tracer

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """The function, computing in float64 whatever precision the process works in.

    Its arguments and its result may be pytrees, and dataclasses that hold them.
    """

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        if jax.config.jax_enable_x64:
            return function(*args, **kwargs)
        with jax.enable_x64(True):
            args, kwargs = _mapped(_widened, (args, kwargs))
            return _mapped(_narrowed, function(*args, **kwargs))

    return computed


def same_precision() -> Callable[[], None]:
    """What a thread must call first to compute in the precision of the thread that is calling."""
    wide = jax.config.jax_enable_x64
    return lambda: jax.enable_x64(wide).__enter__()


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """A pytree with every leaf changed, also inside dataclasses that are no pytrees."""

    def changed(leaf: Any) -> Any:
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            fields = {field.name: getattr(leaf, field.name) for field in dataclasses.fields(leaf)}
            return dataclasses.replace(leaf, **_mapped(change, fields))
        return change(leaf)

    return jax.tree.map(changed, tree)


def _widened(leaf: Any) -> Any:
    """An argument in float64."""
    if isinstance(leaf, Tracer):
        return lax.convert_element_type(leaf, np.float64) if _is_float(leaf) else leaf
    if isinstance(leaf, jax.Array | np.ndarray):
        return np.array(leaf, dtype=np.float64 if _is_float(leaf) else leaf.dtype)[()]
    return leaf


def _narrowed(leaf: Any) -> Any:
    """A result for a process in float32: traced numbers so too, concrete ones in NumPy."""
    if isinstance(leaf, Tracer):
        return lax.convert_element_type(leaf, np.float32) if _is_float(leaf) else leaf
    return np.array(leaf)[()] if isinstance(leaf, jax.Array | np.ndarray) else leaf


def _is_float(leaf: Any) -> bool:
    return np.issubdtype(leaf.dtype, np.floating)
