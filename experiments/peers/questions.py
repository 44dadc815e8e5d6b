"""What qsopt and its peers are asked."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from experiments.peers.interpreters import ROOT
from qsopt.spec.rules import Stack

ARCHITECTURE = {"architectures": ["MixtralForCausalLM"]}
"""Of the one model that is told by its config, which leaves its class out."""


@dataclass(frozen=True)
class Step:
    """A decode step of a model on one replica, at some batches."""

    model: str
    accelerator: str
    tensor: int
    expert: int
    format: str
    """Of the weights, in words."""
    data: int = 1
    context: int = 4096
    batches: tuple[int, ...] = (1, 8, 32, 128)
    kv_dtype: str = "bf16"

    @property
    def devices(self) -> int:
        """Of the replica."""
        return self.tensor * self.data

    @property
    def cluster(self) -> str:
        """The replica's devices."""
        return f"{self.devices}x{self.accelerator}"

    def as_json(self) -> dict[str, Any]:
        """For a peer, with the `config.json` of the model."""
        return {**asdict(self), "config": {**ARCHITECTURE, **hub_config(self.model)}}


@dataclass(frozen=True)
class Requests:
    """Requests to a model on a cluster, under limits on the times that users see."""

    model: str
    accelerator: str = "h200"
    devices: int = 16
    stack: Stack = "vllm"
    prompt: int = 8192
    answer: int = 1024
    ttft_limit: float = 2.0
    tpot_limit: float = 0.040

    @property
    def cluster(self) -> str:
        """All devices."""
        return f"{self.devices}x{self.accelerator}"


STEPS = (
    Step("mixtral-8x7b", "h100", tensor=2, expert=1, format="bf16"),
    Step("deepseek-v3", "h200", tensor=8, expert=8, format="fp8 in blocks", kv_dtype="fp8"),
)
REQUESTS = (Requests("qwen3-235b-a22b"), Requests("llama-3.1-70b"))


def hub_config(model: str) -> dict[str, Any]:
    """The `config.json` of a model of the catalog."""
    return json.loads((ROOT / "configs" / "models" / f"{model}.json").read_text("utf-8"))
