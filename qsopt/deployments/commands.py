"""Layouts as commands that launch vLLM, SGLang or TensorRT-LLM.

A command has what decides the layout and the load: parallel sizes, places for experts, sequences at
once, prompt tokens of a forward, and the longest sequence. Number formats are the checkpoint's;
addresses of nodes and ports are the user's. Pools of prompts and of answers are two commands, to be
joined by the software's own router. `flags.FLAGS` has the documentation of every flag.
"""

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from qsopt.deployments.stacks import RUNS, Layout, Traits
from qsopt.errors import InputError
from qsopt.spec.rules import STACKS, Stack

Phase = Literal["both", "prefill", "decode"]
"""What a server does: prompts and answers, or one of the two in a pool of its own."""

Options = dict[str, Any]
"""Flags or keys with their values; True for a flag without one."""


@dataclass(frozen=True)
class Launch:
    """What a server is started for."""

    model: str
    """Name on the Hub, or path of a checkpoint."""
    layout: Layout
    """Sizes of a replica."""
    traits: Traits
    """What the software asks of the model."""
    batch: int
    """Sequences decoding at once in a replica."""
    context: int
    """Longest sequence, prompt and answer together [tokens]."""
    tokens: int | None = None
    """Prompt tokens of a forward over all attention ranks; the software's own if left out."""
    experts: int = 0
    """Routed experts of a layer, beside which further places hold copies."""
    phase: Phase = "both"
    """Of a pool."""
    mixed: bool = True
    """Whether a forward may carry prompts and answers."""
    utilization: float = 0.9
    """Share of the device memory that may be used."""

    @property
    def copies(self) -> int:
        """Places for experts beyond the experts."""
        return max(self.layout.expert_slots - self.experts, 0) if self.layout.expert_slots else 0

    @property
    def rank_batch(self) -> int:
        """Sequences of an attention rank, all stages together."""
        return math.ceil(self.batch / self.layout.data)

    @property
    def rank_tokens(self) -> int | None:
        """Tokens of a forward of an attention rank: its prompt tokens and, where it writes answers
        too, one of each of a microbatch's sequences; None for the software's own.
        """
        if self.tokens is None:
            return None
        answers = 0
        if self.phase != "prefill" and self.mixed:
            answers = math.ceil(self.rank_batch / self.layout.pipeline)
        return math.ceil(self.tokens / self.layout.data) + answers


def launch_command(stack: Stack, launch: Launch) -> str:
    """The command that launches a replica; for TensorRT-LLM, with the file of its options.

    Raises:
        InputError: if the software cannot run the layout, or is none.
    """
    _check(stack, launch)
    return _COMMANDS[stack](launch)


def pool_commands(stack: Stack, prefill: Launch, decode: Launch) -> tuple[str, str]:
    """The commands of a pool that reads prompts and of one that writes answers.

    Raises:
        InputError: if the two are of other phases, or the software cannot run a layout.
    """
    if (prefill.phase, decode.phase) != ("prefill", "decode"):
        raise InputError(
            f"phases = {prefill.phase}, {decode.phase}: give a launch of the phase prefill, then "
            f"one of the phase decode"
        )
    return launch_command(stack, prefill), launch_command(stack, decode)


def _check(stack: Stack, launch: Launch) -> None:
    layout = launch.layout
    if stack not in _COMMANDS:
        names = ", ".join(name for name in STACKS if name != "any")
        raise InputError(f"stack = {stack}: a command is for one software; take one of {names}")
    if launch.phase not in get_args(Phase):
        known = ", ".join(get_args(Phase))
        raise InputError(f"phase = {launch.phase}: take one of {known}")
    if launch.batch < 1 or launch.context < 1 or (launch.tokens is not None and launch.tokens < 1):
        raise InputError(
            f"batch = {launch.batch}, context = {launch.context}, tokens = {launch.tokens}: give "
            f"positive whole numbers"
        )
    if not RUNS[stack](layout, launch.traits):
        raise InputError(
            f"{stack} cannot run attention tp {layout.tensor} x dp {layout.data}, experts ep "
            f"{layout.expert}, dcp {layout.dcp}: take another stack, or search its own layouts "
            f"with --stack {stack}"
        )
    if launch.copies and layout.expert == 1:
        raise InputError(
            f"expert_slots = {layout.expert_slots} without expert parallelism: set ep above 1, or "
            f"expert_slots to none"
        )
    if stack == "trtllm" and layout.dcp > 1 and launch.phase != "decode":
        raise InputError(
            f"dcp = {layout.dcp}: TensorRT-LLM shares caches (Helix) only in a pool that writes "
            f"answers; set dcp to 1, or the phase to decode"
        )


def _vllm(launch: Launch) -> str:
    layout = launch.layout
    options: Options = {"--tensor-parallel-size": layout.tensor}
    if layout.data > 1:
        options["--data-parallel-size"] = layout.data
    if layout.pipeline > 1:
        options["--pipeline-parallel-size"] = layout.pipeline
    if layout.dcp > 1:
        options["--decode-context-parallel-size"] = layout.dcp
    if launch.traits.routed and layout.expert > 1:
        options |= _vllm_experts(launch)
    options["--max-num-seqs"] = launch.rank_batch
    if launch.rank_tokens is not None:
        options["--max-num-batched-tokens"] = launch.rank_tokens
    options["--max-model-len"] = launch.context
    options["--gpu-memory-utilization"] = launch.utilization
    if launch.phase != "both":
        options["--kv-transfer-config"] = _json(
            {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
        )
    return _line(["vllm", "serve", launch.model], options)


def _vllm_experts(launch: Launch) -> Options:
    options: Options = {"--enable-expert-parallel": True}
    if launch.layout.dispatched:
        kind = "high_throughput" if launch.phase == "prefill" else "low_latency"
        options["--all2all-backend"] = f"deepep_{kind}"
    if launch.copies:
        options["--enable-eplb"] = True
        options["--eplb-config"] = _json({"num_redundant_experts": launch.copies})
    return options


def _sglang(launch: Launch) -> str:
    layout = launch.layout
    options: Options = {"--model-path": launch.model, "--tp-size": layout.stage}
    if layout.data > 1:
        options |= {"--dp-size": layout.data, "--enable-dp-attention": True}
    if layout.pipeline > 1:
        options["--pp-size"] = layout.pipeline
    if layout.dcp > 1:
        options["--dcp-size"] = layout.dcp
    if launch.traits.routed and layout.expert > 1:
        options |= _sglang_experts(launch)
    options["--max-running-requests"] = launch.batch
    if launch.tokens is not None:
        options["--chunked-prefill-size"] = launch.tokens
    if launch.phase == "both" and launch.mixed:
        options["--enable-mixed-chunk"] = True
    options["--context-length"] = launch.context
    if launch.phase != "both":
        options["--disaggregation-mode"] = launch.phase
        options["--disaggregation-transfer-backend"] = "nixl"
    return _line(["python", "-m", "sglang.launch_server"], options)


def _sglang_experts(launch: Launch) -> Options:
    options: Options = {"--ep-size": launch.layout.expert}
    if launch.layout.dispatched:
        options["--moe-a2a-backend"] = "deepep"
        modes = {"prefill": "normal", "decode": "low_latency", "both": "auto"}
        options["--deepep-mode"] = modes[launch.phase]
    if launch.copies:
        options |= {"--enable-eplb": True, "--ep-num-redundant-experts": launch.copies}
    return options


def _trtllm(launch: Launch) -> str:
    name = "options.yaml" if launch.phase == "both" else f"{launch.phase}.yaml"
    lines = [f"{key}: {_yaml(value)}" for key, value in trtllm_options(launch).items()]
    command = _line(["trtllm-serve", launch.model], {"--config": name})
    return "\n".join([f"cat > {name} <<'EOF'", *lines, "EOF", command])


def trtllm_options(launch: Launch) -> Options:
    """Keys of the YAML file that `trtllm-serve` reads.

    Helix turns the ranks that share a cache into tensor ranks for the feed-forward layers, so
    attention's tensor ranks are those of a stage over them.
    """
    layout = launch.layout
    options: Options = {"tensor_parallel_size": layout.stage // layout.dcp}
    if layout.data > 1:
        options["enable_attention_dp"] = True
    if layout.pipeline > 1:
        options["pipeline_parallel_size"] = layout.pipeline
    if layout.dcp > 1:
        options |= {"context_parallel_size": layout.dcp, "cp_config": {"cp_type": "HELIX"}}
    if launch.traits.routed:
        options["moe_expert_parallel_size"] = layout.expert
        options["moe_tensor_parallel_size"] = layout.stage // layout.expert
    if launch.copies:
        balancer = {"num_slots": layout.expert_slots, "layer_updates_per_iter": 1}
        options["moe_config"] = {"backend": "WIDEEP", "load_balancer": balancer}
    options["max_batch_size"] = launch.rank_batch
    if launch.rank_tokens is not None:
        options |= {"max_num_tokens": launch.rank_tokens, "enable_chunked_prefill": True}
    options["max_seq_len"] = launch.context
    if launch.phase != "both":
        options["cache_transceiver_config"] = {
            "backend": "DEFAULT",
            "max_tokens_in_buffer": launch.context,
        }
    return options


_COMMANDS: dict[Stack, Callable[[Launch], str]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "trtllm": _trtllm,
}


def _line(words: list[str], options: Options) -> str:
    """A command line that a shell reads as it stands."""
    for flag, value in options.items():
        words = [*words, flag] if value is True else [*words, flag, str(value)]
    return shlex.join(words)


def _json(value: Options) -> str:
    return json.dumps(value, separators=(",", ":"))


def _yaml(value: Any) -> str:
    """A value in flow style, which is JSON but for the quotes that YAML needs not."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(entry)}' for key, entry in value.items())}}}"
    return json.dumps(value) if isinstance(value, bool) else str(value)
