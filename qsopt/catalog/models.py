"""Models by name: their configs lie in `configs/models/`, and what their makers published about
them in `catalog.toml`.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qsopt.catalog.folder import configs
from qsopt.catalog.hub import hub_config, is_hub_name
from qsopt.catalog.huggingface import read_config
from qsopt.catalog.huggingface.source import load
from qsopt.errors import InputError, unknown_name
from qsopt.record import named
from qsopt.spec.model import Model


@dataclass(frozen=True)
class ModelFacts:
    """What was published about a model, to check counts against. Missing figures are None."""

    name: str
    """Name in the catalog."""
    published_total: float
    """Parameters [count]."""
    published_active: float | None = None
    """Parameters that one token uses [count]; None for dense models."""
    active_convention: str = "all tables"
    """The way of counting that comes closest to `published_active`: "all tables", "without input
    table" or "without both tables".
    """
    training_tokens: float | None = None
    """Tokens of pretraining [count]; the note says where it is an assumption."""
    source: str = ""
    """Who published the totals."""
    config_source: str = ""
    """Where the config's fields come from."""
    note: str = ""
    """Why counts and published figures differ, and what else a reader should know."""


def model_names() -> list[str]:
    """Names of the catalog's models, sorted."""
    return sorted(path.stem for path in _folder().glob("*.json"))


def load_model(
    name_or_path: str | Path, family: str | None = None, ignore: Sequence[str] = ()
) -> Model:
    """The model of that name in the catalog, or that a `config.json`, or a folder that holds one,
    describes, or that has the name `Org/Name` (or `Org/Name@revision`) on the Hugging Face Hub.

    Args:
        name_or_path: name or path; a path that exists comes before a name on the Hub.
        family: read the config as this family, whatever its `model_type`.
        ignore: fields of the config to pass over.

    Raises:
        InputError: if there is neither such a name nor such a path, or if the config cannot be
            understood.
    """
    name = str(name_or_path)
    model = read_config(_config(name_or_path), family, ignore)
    return named(model, name.lower() if name.lower() in model_names() else name)


def trained_context(name: str | None) -> float | None:
    """Tokens of context that a model's config says it can take; None for a model of no known
    config, or one that does not say.
    """
    if name is None or not (name.lower() in model_names() or _exists(Path(name))):
        return None
    path = _config(name)
    fields = load(path).fields
    inner = fields.get("text_config")
    stated = {**fields, **inner} if isinstance(inner, dict) else fields
    values = (stated.get(key) for key in POSITIONS)
    return next((float(value) for value in values if isinstance(value, int | float)), None)


POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""Fields of a config that hold its longest context."""


def _config(name_or_path: str | Path) -> Path:
    """Where the config of a name or a path lies."""
    name = str(name_or_path)
    if name.lower() in model_names():
        return _folder() / f"{name.lower()}.json"
    if _exists(Path(name_or_path)):
        return Path(name_or_path)
    if is_hub_name(name):
        return hub_config(name)
    raise _unknown(name)


def _exists(path: Path) -> bool:
    """Whether there is such a path; a text that cannot be one, being too long for example, is
    none.
    """
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def model_facts(name: str) -> ModelFacts:
    """What was published about a model of the catalog.

    Raises:
        InputError: if the catalog has no such model.
    """
    facts = _facts()
    if name.lower() not in facts:
        raise unknown_name("model", name, facts)
    return facts[name.lower()]


def _unknown(name: str) -> InputError:
    error = unknown_name("model", name, model_names())
    return InputError(
        f"{error} The path of a Hugging Face config.json, or of a folder that holds one, works "
        f"too, and so does a name on the Hub such as Qwen/Qwen3-30B-A3B"
    )


@cache
def _facts() -> dict[str, ModelFacts]:
    with (_folder() / "catalog.toml").open("rb") as file:
        return {name: ModelFacts(name, **fields) for name, fields in tomllib.load(file).items()}


def _folder() -> Path:
    return configs() / "models"
