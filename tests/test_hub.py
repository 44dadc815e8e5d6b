"""Models by their name on the Hub: from the local cache, and over the network from a stand-in
server.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from qsopt.catalog.hub import cached_folder, is_hub_name
from qsopt.catalog.models import load_model
from qsopt.errors import InputError

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 96,
    "vocab_size": 100,
}
COMMIT = "a" * 40


def snapshot(cache: Path, name: str, commit: str, layers: int, reference: str | None) -> None:
    folder = cache / f"models--{name.replace('/', '--')}"
    files = folder / "snapshots" / commit
    files.mkdir(parents=True)
    (files / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
    if reference:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / reference).write_text(commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def layers(name: str) -> int:
    return int(load_model(name).layers)


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("Qwen/Qwen3-30B-A3B", True),
        ("Org/Name.v1@refs/pr/3", True),
        ("deepseek-v3", False),
        ("configs/models/dbrx.json", False),
        ("configs/dbrx.json", False),
        ("/models/mine", False),
        ("../Org/Name", False),
    ],
)
def test_names_on_the_hub(text: str, is_name: bool) -> None:
    assert is_hub_name(text) == is_name


def test_main_of_the_cache(cache: Path) -> None:
    snapshot(cache, "Org/Name", "b" * 40, 3, None)
    snapshot(cache, "Org/Name", COMMIT, 5, "main")
    assert layers("Org/Name") == 5
    assert layers("Org/Name@main") == 5
    assert layers(f"Org/Name@{'b' * 40}") == 3


def test_newest_snapshot_where_no_reference_is_kept(cache: Path) -> None:
    snapshot(cache, "Org/Name", "b" * 40, 3, None)
    assert cached_folder("Org/Name") is not None
    assert layers("Org/Name") == 3
    assert cached_folder("Org/Name", "v2") is None


def test_home_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    snapshot(tmp_path / "hub", "Org/Name", COMMIT, 7, "main")
    assert layers("Org/Name") == 7


def test_path_comes_before_a_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(cache, "Org/Name", COMMIT, 5, "main")
    (tmp_path / "Org" / "Name").mkdir(parents=True)
    (tmp_path / "Org" / "Name" / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    assert layers("Org/Name") == 4


@pytest.mark.usefixtures("cache")
def test_offline_says_what_to_do() -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(
        InputError, match=r"cannot be fetched .* give the path, or run 'hf download"
    ):
        load_model("Org/Missing")


@pytest.mark.usefixtures("cache")
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install qsopt\[hub\] to fetch it, or download"):
        load_model("Org/Missing")


QUANTISED = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}


class Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for the Hub with one model, which has an `hf_quant_config.json`."""

    files: ClassVar = {"config.json": CONFIG, "hf_quant_config.json": QUANTISED}

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        name = self.path.rsplit("/", 1)[-1]
        known = self.path == f"/Org/Served/resolve/main/{name}" and name in self.files
        text = json.dumps(self.files[name]).encode() if known else b""
        self.send_response(200 if known or self.path == "/" else 404)
        if not known and self.path != "/":
            missing = "EntryNotFound" if "/Org/Served/" in self.path else "RepoNotFound"
            self.send_header("X-Error-Code", missing)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache, with the stand-in server in place of the Hub."""
    pytest.importorskip("huggingface_hub")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield cache
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetched_with_what_lies_beside(served: Path) -> None:
    model = load_model("Org/Served")
    assert int(model.layers) == 4
    assert float(model.precision.attention.bytes) == 1.0  # from hf_quant_config.json
    assert cached_folder("Org/Served") == served / "models--Org--Served" / "snapshots" / COMMIT


@pytest.mark.usefixtures("served")
def test_name_that_the_hub_lacks() -> None:
    with pytest.raises(InputError, match="'Org/Absent' is not in the Hugging Face cache"):
        load_model("Org/Absent")
