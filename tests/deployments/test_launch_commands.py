"""Launch commands: by hand for known layouts, every flag documented, what cannot run refused."""

import shlex
from dataclasses import replace
from itertools import product
from urllib.parse import urlparse

import pytest

from qsopt.deployments.commands import Launch, launch_command, pool_commands, trtllm_options
from qsopt.deployments.flags import FLAGS
from qsopt.deployments.stacks import RUNS, Layout, Traits
from qsopt.errors import InputError
from qsopt.spec.rules import Stack

NAME = "deepseek-ai/DeepSeek-V3"
MOE, DENSE = Traits(routed=True, latent=True), Traits(routed=False, latent=False)
STACKS: tuple[Stack, ...] = ("vllm", "sglang", "trtllm")

WIDE = Launch(
    NAME,
    Layout(1, 16, 1, 16, 1.0, 1, 288),
    MOE,
    batch=1024,
    context=9216,
    tokens=16384,
    experts=256,
)
ONE = Launch("Qwen/Qwen3-32B", Layout(2, 1, 1, 1, 0.0), DENSE, batch=64, context=10240)


def flags(command: str) -> list[str]:
    """Flags of a command, and top-level keys of the options before it."""
    *head, line = command.splitlines()
    keys = [text.split(":")[0] for text in head if ": " in text]
    return keys + [word for word in shlex.split(line) if word.startswith("--")]


def test_vllm_by_hand() -> None:
    assert launch_command("vllm", ONE) == (
        "vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2 --max-num-seqs 64 --max-model-len "
        "10240 --gpu-memory-utilization 0.9"
    )
    assert shlex.split(launch_command("vllm", WIDE)) == [
        *("vllm", "serve", NAME, "--tensor-parallel-size", "1", "--data-parallel-size", "16"),
        *("--enable-expert-parallel", "--all2all-backend", "deepep_low_latency", "--enable-eplb"),
        *("--eplb-config", '{"num_redundant_experts":32}', "--max-num-seqs", "64"),
        *("--max-num-batched-tokens", "1088", "--max-model-len", "9216"),  # 16384/16 + 64
        *("--gpu-memory-utilization", "0.9"),
    ]


def test_sglang_by_hand() -> None:
    assert shlex.split(launch_command("sglang", WIDE)) == [
        *("python", "-m", "sglang.launch_server", "--model-path", NAME, "--tp-size", "16"),
        *("--dp-size", "16", "--enable-dp-attention", "--ep-size", "16"),
        *("--moe-a2a-backend", "deepep", "--deepep-mode", "auto", "--enable-eplb"),
        *("--ep-num-redundant-experts", "32", "--max-running-requests", "1024"),
        *("--chunked-prefill-size", "16384", "--enable-mixed-chunk", "--context-length", "9216"),
    ]


def test_trtllm_by_hand() -> None:
    assert launch_command("trtllm", ONE).splitlines() == [
        "cat > options.yaml <<'EOF'",
        "tensor_parallel_size: 2",
        "max_batch_size: 64",
        "max_seq_len: 10240",
        "EOF",
        "trtllm-serve Qwen/Qwen3-32B --config options.yaml",
    ]
    assert trtllm_options(WIDE) == {
        "tensor_parallel_size": 16,
        "enable_attention_dp": True,
        "moe_expert_parallel_size": 16,
        "moe_tensor_parallel_size": 1,
        "moe_config": {
            "backend": "WIDEEP",
            "load_balancer": {"num_slots": 288, "layer_updates_per_iter": 1},
        },
        "max_batch_size": 64,
        "max_num_tokens": 1088,
        "enable_chunked_prefill": True,
        "max_seq_len": 9216,
    }
    wide = launch_command("trtllm", WIDE)
    assert "load_balancer: {num_slots: 288, layer_updates_per_iter: 1}" in wide
    assert "enable_attention_dp: true" in wide


def test_helix_shares_the_ranks_of_a_stage() -> None:
    launch = replace(WIDE, layout=Layout(8, 1, 1, 8, 0.0, 4), phase="decode")
    options = trtllm_options(launch)
    assert options["tensor_parallel_size"] * options["context_parallel_size"] == 8
    assert options["moe_expert_parallel_size"] * options["moe_tensor_parallel_size"] == 8


@pytest.mark.parametrize("stack", STACKS)
def test_pools_are_two_commands(stack: Stack) -> None:
    prefill = replace(WIDE, phase="prefill", layout=Layout(1, 8, 1, 8, 1.0))
    decode = replace(WIDE, phase="decode", tokens=None)
    first, second = pool_commands(stack, prefill, decode)
    for command in (first, second):
        assert any(word in command for word in ("NixlConnector", "nixl", "transceiver"))
    if stack == "vllm":
        assert "deepep_high_throughput" in first
        assert "deepep_low_latency" in second
        assert "--max-num-batched-tokens 2048" in first, "a pool of prompts writes no answers"
    with pytest.raises(InputError, match="phase prefill"):
        pool_commands(stack, decode, prefill)


def test_every_flag_has_its_page() -> None:
    """Of every layout that a software runs, and every phase; and no page without a use."""
    sizes = product((1, 2, 8), (1, 2), (1, 2), (1, 4, 8), (0.0, 1.0), (1, 2), (0, 72))
    used: dict[Stack, set[str]] = {stack: set() for stack in STACKS}
    for values, traits, stack in product(sizes, (MOE, DENSE), STACKS):
        layout = Layout(*values)
        legal = layout.stage % layout.expert == 0 and layout.tensor % layout.dcp == 0
        placed = traits.routed or (layout.expert == 1 and not layout.dispatched)
        if not (legal and placed and RUNS[stack](layout, traits)):
            continue
        if layout.expert_slots and layout.expert == 1:
            continue
        for phase in ("both", "prefill", "decode"):
            launch = Launch("m", layout, traits, 64, 8192, 2048, experts=64, phase=phase)
            if stack == "trtllm" and layout.dcp > 1 and phase != "decode":
                continue
            used[stack] |= set(flags(launch_command(stack, launch)))
    for stack in STACKS:
        assert used[stack] == set(FLAGS[stack]), stack


def test_pages_are_public_addresses_of_the_software() -> None:
    hosts = {"vllm": "docs.vllm.ai", "sglang": "docs.sglang.io", "trtllm": "nvidia.github.io"}
    for stack, pages in FLAGS.items():
        for page in pages.values():
            address = urlparse(page)
            assert (address.scheme, address.netloc) == ("https", hosts[stack])


@pytest.mark.parametrize(
    ("stack", "launch", "says"),
    [
        ("any", ONE, "take one of vllm, sglang, trtllm"),
        ("vllm", replace(ONE, layout=Layout(1, 2, 1, 1, 0.0)), "--stack vllm"),
        ("vllm", replace(WIDE, layout=Layout(4, 1, 1, 2, 0.0)), "take another stack"),
        ("sglang", replace(ONE, layout=Layout(2, 1, 1, 1, 0.0, 2)), "--stack sglang"),
        ("trtllm", replace(WIDE, layout=Layout(2, 4, 1, 8, 1.0)), "--stack trtllm"),
        ("trtllm", replace(WIDE, layout=Layout(8, 1, 1, 8, 0.0, 2)), "set dcp to 1"),
        ("vllm", replace(WIDE, layout=Layout(4, 1, 1, 1, 0.0, 1, 288)), "set ep above 1"),
        ("vllm", replace(ONE, batch=0), "positive whole numbers"),
        ("vllm", replace(ONE, tokens=0), "positive whole numbers"),
        ("vllm", replace(ONE, phase="all"), "take one of both, prefill, decode"),
    ],
)
def test_what_cannot_run_is_refused(stack: Stack, launch: Launch, says: str) -> None:
    with pytest.raises(InputError) as caught:
        launch_command(stack, launch)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shell_reads_odd_names_as_they_are() -> None:
    odd = replace(ONE, model="my models/it's; rm")
    assert shlex.split(launch_command("vllm", odd))[2] == odd.model
