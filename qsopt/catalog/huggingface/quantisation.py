"""Number formats of a checkpoint: its base type, and what `quantization_config` makes of each part.

Embedding, head and router stay in the base type unless the head is named among the quantised
modules. A part whose matrices have several formats (layers kept wide, mixed precision) gets the
mean bytes of its weights, so that bytes in memory and bytes read are those of the checkpoint, and
the arithmetic of the format that most of its weights have. Dense layers and shared experts are one
part, and so are embedding and head.
"""

from collections.abc import Sequence

import equinox as eqx

from qsopt.catalog.huggingface.methods import CONVERTED, plan
from qsopt.catalog.huggingface.modules import Block, Cell, Modules
from qsopt.catalog.huggingface.names import ATTENTION, DENSE, EXPERTS, SHARED
from qsopt.catalog.huggingface.plan import Plan
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format, number_format
from qsopt.spec.model import Precision

_BASE = {"float32": "bf16", "float16": "bf16", "bfloat16": "bf16"}
"""How a checkpoint's type is served: fp32 ones are cast to bf16, as every serving engine does by
default.
"""

_ROUTED_DTYPES = {"fp4": "mxfp4"}
"""DeepSeek-V4 names the type of its routed experts apart from `quantization_config`."""


def precision(
    reader: Reader, hidden: int, blocks: Sequence[Block], experts_apart: bool = False
) -> Precision:
    """The formats of a checkpoint.

    Raises:
        InputError: if the type, the method or a module's name is unknown.
    """
    base = _base_format(reader)
    parts = {"attention": base, "ffn": base, "experts": base, "tables": base}
    cache = number_format("bf16")
    if reader.has("quantization_config"):
        section = reader.section("quantization_config")
        chosen = plan(section)
        modules = Modules(blocks, hidden, experts_apart, section.error)
        parts |= _formats(chosen, modules, base)
        cache = chosen.kv_cache
        if section.has("moe_quant_algo"):
            reader.skip("expert_dtype")
            return Precision(**parts, kv_cache=cache)
    if reader.has("expert_dtype"):
        parts["experts"] = _expert_format(reader, parts["experts"])
    return Precision(**parts, kv_cache=cache)


def _base_format(reader: Reader) -> Format:
    """The type under its old or new name. Configs of quantised checkpoints leave it out; the rest
    is then bf16.
    """
    reader.skip("torch_dtype", "dtype")
    key = "dtype" if reader.has("dtype") else "torch_dtype"
    name = reader.text(key, "bfloat16").removeprefix("torch.")
    if name not in _BASE:
        raise reader.error(f"field '{key}' = '{name}' is not supported; known: {', '.join(_BASE)}")
    return number_format(_BASE[name])


def _expert_format(reader: Reader, otherwise: Format) -> Format:
    name = reader.text("expert_dtype")
    if name in ("fp8", "bf16"):
        return otherwise
    if name not in _ROUTED_DTYPES:
        raise reader.error(f"field 'expert_dtype' = '{name}' is not supported; fp4, fp8, bf16 are")
    return number_format(_ROUTED_DTYPES[name])


def _formats(chosen: Plan, modules: Modules, base: Format) -> dict[str, Format]:
    """The format of each part; of parts that the model lacks, the widest that would apply."""
    mixes = _mixes(chosen, modules, base)
    groups = {"attention": (ATTENTION,), "ffn": (DENSE, SHARED), "experts": (EXPERTS,)}
    result = {}
    for part, members in groups.items():
        mix = [
            (share * modules.cells[cell], form)
            for cell, shares in mixes.items()
            if cell.part in members
            for share, form in shares
        ]
        default = chosen.default if part in CONVERTED.get(chosen.method, groups) else None
        result[part] = _blend(mix) if mix else default or base
    if chosen.head is not None:
        result["tables"] = _blend([(1.0, base), (1.0, chosen.head)])
    return result


Mix = list[tuple[float, Format]]


def _mixes(chosen: Plan, modules: Modules, base: Format) -> dict[Cell, Mix]:
    """Shares of every cell by format: the default first, then what names say, then what stays
    wide.
    """
    converted = CONVERTED.get(chosen.method, (ATTENTION, DENSE, SHARED, EXPERTS))
    mixes: dict[Cell, Mix] = {
        cell: [(1.0, chosen.default if chosen.default and cell.part in converted else base)]
        for cell in modules.cells
    }
    rules = [(name, form) for names, form in chosen.targets for name in names]
    rules += [(name, base) for name in chosen.wide]
    for name, form in rules:
        for cell, share in modules.find(name):
            mixes[cell] = _moved(mixes[cell], share, form)
    return mixes


def _moved(mix: Mix, share: float, form: Format) -> Mix:
    """The mix after `share` of the whole got another format, taken from what stood first."""
    if share >= 1.0:
        return [(1.0, form)]
    (first, old), rest = mix[0], mix[1:]
    same = sum(part for part, other in rest if eqx.tree_equal(other, form))
    others = [(part, other) for part, other in rest if not eqx.tree_equal(other, form)]
    return [(max(first - share, 0.0), old), *others, (same + min(share, first), form)]


def _blend(mix: Mix) -> Format:
    """The mean bytes of weighted formats, with the arithmetic of the one that weighs most."""
    weights: dict[tuple[float, int, int], float] = {}
    for weight, form in mix:
        key = (float(form.bytes), int(form.arithmetic), int(form.index))
        weights[key] = weights.get(key, 0.0) + weight
    total = sum(weights.values())
    if total == 0.0:
        return max((form for _, form in mix), key=lambda form: float(form.bytes))
    size = sum(weight * key[0] for key, weight in weights.items()) / total
    _, arithmetic, index = max(weights, key=lambda key: weights[key])
    return Format(size, arithmetic, index)
