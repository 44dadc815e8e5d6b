"""Configs by the name that a model has on the Hugging Face Hub: from the local cache, or over the
network with `huggingface_hub`.

Layout of the cache: `models--Org--Name/refs/REVISION` names a commit, and
`models--Org--Name/snapshots/COMMIT/` holds its files (huggingface_hub's documentation, "Understand
caching"). `HF_HUB_CACHE`, `HF_HOME` and `HF_ENDPOINT` are honoured as there.
"""

import importlib.util
import os
import re
from pathlib import Path

from qsopt.catalog.huggingface.source import INDEX_FILE, QUANT_FILE
from qsopt.errors import InputError
from qsopt.files import read_text

CONFIG_FILE = "config.json"

_PATIENCE = 10.0
"""How long to wait for the Hub to answer [s]."""

_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(?:@[\w./-]+)?")
"""An organisation and a model, with a revision where wanted."""


def is_hub_name(name: str) -> bool:
    """Whether a text has the form `Org/Name` or `Org/Name@revision`."""
    return _NAME.fullmatch(name) is not None and not name.lower().endswith(".json")


def hub_config(name: str) -> Path:
    """The folder with the config of a model on the Hub, and what lies beside it.

    Raises:
        InputError: if the model is not in the cache and cannot be fetched.
    """
    repository, _, revision = name.partition("@")
    cached = cached_folder(repository, revision or "main")
    return cached if cached is not None else _fetched(repository, revision or "main")


def cached_folder(repository: str, revision: str = "main") -> Path | None:
    """The snapshot in the local cache that holds a config, or None."""
    folder = _cache() / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = read_text(reference, "remove it").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    if (snapshot / CONFIG_FILE).is_file():
        return snapshot
    if reference.is_file() or revision != "main":
        return None
    others = sorted(
        folder.glob(f"snapshots/*/{CONFIG_FILE}"), key=lambda file: file.stat().st_mtime
    )
    return others[-1].parent if others else None


def _cache() -> Path:
    if explicit := os.environ.get("HF_HUB_CACHE"):
        return Path(explicit).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = os.environ.get("HF_HOME", str(cache / "huggingface"))
    return Path(home).expanduser() / "hub"


def _fetched(repository: str, revision: str) -> Path:
    advice = (
        f"download its config.json and give the path, or run 'hf download {repository} "
        f"{CONFIG_FILE}' where there is a network"
    )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(
            f"'{repository}' is not in the Hugging Face cache ({_cache()}), and huggingface_hub is "
            f"not installed: install qsopt[hub] to fetch it, or {advice}"
        )
    try:
        return _download(repository, revision)
    except OSError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"'{repository}' is not in the Hugging Face cache ({_cache()}) and cannot be fetched "
            f"({reason.rstrip('.')}); {advice}"
        ) from error


def _download(repository: str, revision: str) -> Path:
    """Fetch the config and what may lie beside it into the cache.

    Raises:
        OSError: if the Hub cannot be reached, or has no such model or revision.
    """
    from huggingface_hub import get_session, hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import EntryNotFoundError  # noqa: PLC0415

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    # One quick attempt first: the library retries for half a minute where there is no network.
    try:
        get_session().head(endpoint, timeout=_PATIENCE)
    except Exception as error:
        raise ConnectionError(f"no connection to {endpoint}") from error
    folder = None
    for name in (CONFIG_FILE, QUANT_FILE, INDEX_FILE):
        try:
            file = hf_hub_download(
                repository, name, revision=revision, cache_dir=_cache(), endpoint=endpoint
            )
            folder = folder or Path(file).parent
        except EntryNotFoundError:
            if name == CONFIG_FILE:
                raise
    assert folder is not None
    return folder
