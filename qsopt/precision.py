"""Float64 for every answer, whatever the process works in.

JAX works in float32 unless told otherwise, and that is too little for an answer: a largest batch
may be a whole number beyond 2**24, and winners are told apart at 1e-9. The rule here is that of
`in_float64`, which every public function follows:

* A concrete question is answered in float64; where the process works in float32, by NumPy numbers.
* A traced one is a function in the precision of the process, for its `jit`, `grad` and `vmap`, and
  every formula and its derivative are finite in both. Float64 inside a trace of float32 would not
  do: JAX lowers, batches and transposes it later, outside of the context that allows it.

Three properties of JAX (0.8 to 0.10) make the two precisions safe beside each other, or not:

* Compiled functions are cached by the precision as well as by their arguments: nothing is shared.
* The form that JAX gives a NumPy array is remembered by the identity of the array, without the
  precision. An array that was seen in one precision must never be seen in the other, or float32
  and float64 meet in one program ("Cannot lower jaxpr", "RuntimeProgramInputMismatch"). So arrays
  are copied on the way into float64 and back. NumPy scalars are not remembered (see
  `arrays.scalar`).
* The precision belongs to a thread: a thread that computes must ask for it (`same_precision`).
"""

import dataclasses
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from qsopt.arrays import is_concrete

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """The function, in float64 where its arguments are concrete, else as it is.

    Arguments and results may be pytrees, and dataclasses that hold them.
    """

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        if jax.config.read("jax_enable_x64") or not is_concrete((args, kwargs)):
            return function(*args, **kwargs)
        with jax.enable_x64(True):
            args, kwargs = _mapped(_widened, (args, kwargs))
            return _mapped(_own, function(*args, **kwargs))

    return computed


def same_precision() -> Callable[[], None]:
    """What a thread must call first to compute in the precision of the thread that is calling."""
    wide = jax.config.read("jax_enable_x64")
    return lambda: jax.enable_x64(wide).__enter__()


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """A pytree with every leaf changed, also inside dataclasses that are no pytrees; dictionaries
    keep their order.
    """

    def changed(leaf: Any) -> Any:
        if isinstance(leaf, dict):
            return {key: _mapped(change, value) for key, value in leaf.items()}
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            fields = {field.name: getattr(leaf, field.name) for field in dataclasses.fields(leaf)}
            return dataclasses.replace(leaf, **_mapped(change, fields))
        return change(leaf)

    return jax.tree.map(changed, tree, is_leaf=lambda node: isinstance(node, dict))


def _widened(leaf: Any) -> Any:
    """An argument as NumPy numbers of its own, in float64 where it is a float."""
    if not isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    is_float = np.issubdtype(leaf.dtype, np.floating)
    return np.array(leaf, dtype=np.float64 if is_float else leaf.dtype)[()]


def _own(leaf: Any) -> Any:
    """A result as NumPy numbers of its own."""
    known = isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, Tracer)
    return np.array(leaf)[()] if known else leaf
