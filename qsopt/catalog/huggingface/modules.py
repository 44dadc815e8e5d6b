"""Which weights a name in a checkpoint's quantisation means, such as
`layers.3.mlp.experts.7.up_proj`, `re:.*self_attn.*`, `gate` or `model.layers.0*`.

The matrices of every layer are cells: layer, part (attention, dense, shared, experts) and a short
name. A path is read as a layer, a block and a matrix; a regular expression is tried on the names
that the cells have in released checkpoints.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from qsopt.catalog.huggingface.names import (
    ATTENTION,
    BLOCKS,
    CONTAINERS,
    DENSE,
    EXPERTS,
    KEPT,
    MATRICES,
    OUTSIDE,
    PREFIXES,
    SHARED,
    STATES,
    STEMS,
    WHOLE,
)
from qsopt.errors import InputError
from qsopt.spec.layers import Attention, DenseFfn, Ffn, Gqa, LinearAttention, Mla, MoeFfn

Block: TypeAlias = tuple[Attention | Ffn, ...]
"""The attention and feed-forward of one layer, in any order, any number of each."""


class Cell(NamedTuple):
    """One matrix of one layer; of routed experts, the same matrix of all of them."""

    layer: int
    part: str
    matrix: str


class Found(NamedTuple):
    """A cell, and which share of it a name means: less than all for single experts."""

    cell: Cell
    share: float = 1.0


Cells: TypeAlias = dict[Cell, float]
"""Parameters of every cell."""


def cells(blocks: Sequence[Block], hidden: int) -> Cells:
    """The matrices of all layers with their parameters.

    Parts that the model lacks have cells without weight in the first layer, so that names of them
    are understood.
    """
    found = {
        Cell(layer, part, matrix): float(weight)
        for layer, block in enumerate(blocks)
        for kind in block
        for part, matrix, weight in matrices(kind, hidden)
    }
    present = {cell.part for cell in found}
    absent = {EXPERTS} - present if EXPERTS in present or DENSE in present else set()
    absent |= {DENSE, SHARED} if not present & {DENSE, SHARED} else set()
    names = ("gate", "up", "down")
    return found | {Cell(0, part, name): 0.0 for part in sorted(absent) for name in names}


def matrices(kind: Attention | Ffn, hidden: int) -> Iterator[tuple[str, str, float]]:
    """Part, short name and parameters of every matrix of a layer."""
    if isinstance(kind, DenseFfn):
        yield from _ffn(DENSE, kind.width, kind.matrices, hidden)
    elif isinstance(kind, MoeFfn):
        shared = kind.shared_experts * kind.shared_width
        yield from _ffn(SHARED, shared, kind.matrices, hidden)
        yield from _ffn(EXPERTS, kind.experts * kind.width, kind.matrices, hidden)
    else:
        for matrix, weight in _attention(kind, hidden).items():
            yield ATTENTION, matrix, weight


def _ffn(part: str, width: float, number: float, hidden: int) -> Iterator[tuple[str, str, float]]:
    if width > 0:
        names = ("gate", "up", "down") if number == 3 else ("up", "down")
        yield from ((part, name, width * hidden) for name in names)


def _attention(kind: Attention, hidden: int) -> dict[str, float]:
    if isinstance(kind, Gqa):
        query, kv = kind.heads * kind.head_dim, kind.kv_heads * kind.head_dim * kind.projected
        wide = hidden * (1 if kind.inputs is None else kind.inputs)
        return {
            "q": wide * query * (1 + kind.output_gate),
            "k": wide * kv,
            "v": wide * kv,
            "o": hidden * query,
            "indexer": hidden * kind.index_dim * (kind.index_heads + 1),
        }
    if isinstance(kind, LinearAttention):
        gate = min(kind.output_width, kind.input_width)
        return {
            "in": hidden * (kind.input_width - gate),
            "gate_in": hidden * gate,
            "inner": kind.inner,
            "out": hidden * kind.output_width,
        }
    return _latent(kind, hidden)


def _latent(kind: Mla, hidden: int) -> dict[str, float]:
    query_input = kind.q_rank if kind.q_rank > 0 else hidden
    index = kind.index_heads * kind.index_dim
    width, low = kind.heads * kind.v_dim, kind.output_groups * kind.output_rank
    output = width * kind.output_rank + low * hidden if low > 0 else width * hidden
    return {
        "q_a": hidden * kind.q_rank,
        "q_b": query_input * kind.heads * (kind.nope_dim + kind.rope_dim),
        "kv_a": hidden * (kind.kv_rank + kind.rope_dim),
        "kv_b": kind.kv_rank * kind.heads * (kind.nope_dim + kind.v_dim) * (1 - kind.direct),
        "o": output,
        "indexer": query_input * index
        + hidden * (kind.index_dim + kind.index_heads + kind.compressor),
    }


class Modules:
    """Names looked up in the cells of one model.

    `experts_apart`: the experts stand beside the block `mlp`, not inside it (Gemma 4).
    """

    def __init__(
        self, blocks: Sequence[Block], hidden: int, experts_apart: bool, error: Callable
    ) -> None:
        self.cells = cells(blocks, hidden)
        self._experts = {
            layer: float(kind.experts)
            for layer, block in enumerate(blocks)
            for kind in block
            if isinstance(kind, MoeFfn)
        }
        self._layers: dict[int, list[Cell]] = {}
        for cell in self.cells:
            self._layers.setdefault(cell.layer, []).append(cell)
        self._apart = experts_apart
        self._error = error

    def find(self, name: str) -> list[Found]:
        """The cells that a name or pattern means; none if it lies outside the layers, or is never
        quantised.

        Raises:
            InputError: if the name is not understood.
        """
        if name.startswith("re:"):
            return self._matching(name.removeprefix("re:"))
        if not OUTSIDE.isdisjoint(re.split(r"[.*]+", name)):
            return []
        layers, tokens = self._path(name)
        if tokens and _kept(tokens):
            return []
        if layers is None and not tokens:
            raise self._unknown(name)
        chosen = self._layers if layers is None else layers
        found = [self._of_layer(tokens, layer) for layer in chosen]
        if chosen and all(each is None for each in found):
            raise self._unknown(name)
        return [one for each in found if each is not None for one in each]

    def _path(self, name: str) -> tuple[list[int] | None, list[str]]:
        """Layers that a path names (None: it names no layer), and what follows."""
        place = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(\*?)(?=\.|\*|$)", name)
        rest = name if place is None else name[place.end() :]
        tokens = [token for token in re.split(r"[.*]+", rest.removesuffix(".weight")) if token]
        if place is None:
            return None, [token for token in tokens if token not in STEMS]
        start, star = place.groups()
        if star and not tokens:
            return [layer for layer in self._layers if str(layer).startswith(start)], tokens
        return [layer for layer in self._layers if layer == int(start)], tokens

    def _of_layer(self, tokens: list[str], layer: int) -> list[Found] | None:
        """Cells of one layer, or None if no rule reads the tokens."""
        share, names = self._expert_share(tokens, layer)
        parts = self._parts(names)
        if parts is None:
            return None
        known = self._known(names)
        if known is None:
            return None
        return [
            Found(cell, share if cell.part == EXPERTS else 1.0)
            for cell in self._layers[layer]
            if cell.part in parts and (not known or cell.matrix in known)
        ]

    def _known(self, names: list[str]) -> set[str] | None:
        """The matrices that a path ends at; none for a whole block, None if it is not known."""
        last = names[-1] if names else ""
        if any(name in ("indexer", "compressor") for name in names):
            return {"indexer"}
        known = {matrix for matrix, all_names in MATRICES.items() if last in all_names}
        whole = not names or last in CONTAINERS or last.startswith("shared_")
        return known if known or whole else None

    def _expert_share(self, tokens: list[str], layer: int) -> tuple[float, list[str]]:
        numbered = any(token.isdigit() for token in tokens)
        names = [token for token in tokens if not token.isdigit()]
        return (1.0 / self._experts.get(layer, 1.0) if numbered else 1.0), names

    def _parts(self, names: list[str]) -> tuple[str, ...] | None:  # noqa: PLR0911
        """Parts that the names after a layer mean, the first rule that fits; None if none does."""
        if not names:
            return (ATTENTION, DENSE, SHARED, EXPERTS)
        if any(name.startswith("shared_") for name in names):
            return (SHARED,)
        if "experts" in names:
            return (EXPERTS,)
        if any("attn" in name or "attention" in name for name in names) or names[0] in STATES:
            return (ATTENTION,)
        if names[-1] in WHOLE:
            return (DENSE, SHARED) if self._apart else (DENSE, SHARED, EXPERTS)
        if any(name in WHOLE for name in names) or names[0] == "mlps":
            return (DENSE, SHARED) if self._apart else (DENSE,)
        known = any(names[-1] in all_names for all_names in MATRICES.values())
        if names[-1] == "mixer" or known:
            return (ATTENTION, DENSE) if names[0] == "mixer" else (*BLOCKS,)
        return None

    def _matching(self, pattern: str) -> list[Found]:
        try:
            matches = re.compile(pattern).match
        except re.error as error:
            raise self._error(
                f"'re:{pattern}' is no regular expression ({error}); correct it"
            ) from error
        found = [
            Found(cell)
            for cell in self.cells
            if any(matches(name) for name in _names(cell, self._apart))
        ]
        words = re.findall(r"[A-Za-z_]\w*", pattern.replace("\\", " "))
        understood = found or _kept(words) or not OUTSIDE.isdisjoint(words)
        if not understood and not any(matches(path) for path in self._paths()):
            raise self._unknown(f"re:{pattern}")
        return found

    def _paths(self) -> Iterator[str]:
        """Paths of blocks. An expression that ends at one means no matrix: llm-compressor and
        vLLM try it on the matrices' own names.
        """
        for layer, part in sorted({(cell.layer, cell.part) for cell in self.cells}):
            for prefix in PREFIXES:
                yield from (f"{prefix}.{layer}.{block}" for block in BLOCKS[part])

    def _unknown(self, name: str) -> InputError:
        return self._error(
            f"'{name}' among the modules is not understood; remove it if it does not matter"
        )


def _kept(tokens: Sequence[str]) -> bool:
    """Whether a path ends at a module that keeps its type, or is too small to matter."""
    return any(token in KEPT for token in tokens[-2:]) or any("norm" in token for token in tokens)


def _names(cell: Cell, experts_apart: bool) -> Iterator[str]:
    """Names that a cell has in released checkpoints."""
    blocks = BLOCKS[cell.part]
    if cell.part == SHARED and experts_apart:
        blocks = ("mlp",)
    for prefix in PREFIXES:
        for block in blocks:
            for matrix in MATRICES[cell.matrix]:
                yield f"{prefix}.{cell.layer}.{block}.{matrix}"
