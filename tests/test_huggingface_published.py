"""Public configs against published counts: each
is right, or refused by name with a remedy. The table of docs/models.md is checked against them.
"""

import csv
import re
from pathlib import Path

import pytest

from qsopt.catalog.huggingface import read_config
from qsopt.catalog.huggingface.importer import FAMILIES
from qsopt.errors import InputError
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.parameters import parameter_count

FOLDER = Path(__file__).parents[2] / "shared" / "reference" / "hf_configs_more"
PAGE = Path(__file__).parents[1] / "docs" / "models.md"

REFUSED = {"RWKV__rwkv-4-7b-pile", "google__recurrentgemma-2b"}

TOTALS = {
    "Zyphra__Zamba2-2.7B": -0.0808,  # one shared block in the file, two in the released model
    "Qwen__Qwen3.5-9B": 0.0451,  # "9B" is the language model; the total counts the vision tower
    "microsoft__Phi-3.5-vision-instruct": -0.0793,  # the config is that of its language model
    "mistralai__Devstral-2-123B-Instruct-2512": 0.0165,  # "123B" is the name: 125B in safetensors
    "nvidia__Kimi-K2.6-NVFP4": 0.0269,  # published as 1T
    "nvidia__NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4": 0.0526,  # "30B" is the name
    "tiiuae__falcon-7b": -0.0413,  # the safetensors hold the one table twice
}
"""Error against the published total where it exceeds 1.5 %, with its reason."""

ACTIVE = {
    "nvidia__NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4": -0.0415,  # "A3B" is the name
    "zai-org__GLM-4.7-Flash": 0.0875,  # "A3B" is the name
}
"""Error against the published active count, in the convention that comes closest, above 4 %."""

CACHE = {
    "LiquidAI__LFM2.5-VL-1.6B": 0.5,  # the list has twice the layers that attend in the config
    "nvidia__Kimi-K2.6-NVFP4": 0.5,  # the checkpoint asks for an fp8 cache
    "nvidia__MiniMax-M2.5-NVFP4": 0.5,
}
"""Bytes of the cache over those listed, which are of bf16."""

LISTED = FOLDER / "expected.csv"

LINES = LISTED.read_text("utf-8").splitlines() if LISTED.is_file() else []

ROWS = {row["config"]: row for row in csv.DictReader(LINES)}

needs_files = pytest.mark.skipif(not ROWS, reason="the public configs are not here")


def counted(name: str) -> float:
    return float(parameter_count(read_config(FOLDER / f"{name}.json")).total)


@needs_files
@pytest.mark.parametrize("name", sorted(ROWS))
def test_counts_are_the_published_ones(name: str) -> None:
    row, path = ROWS[name], FOLDER / f"{name}.json"
    if name in REFUSED:
        with pytest.raises(InputError, match=r"is not supported: .*qsopt\.model.*--as"):
            read_config(path)
        return
    model = read_config(path)
    counts = parameter_count(model)
    error = float(counts.total) / (float(row["published_total_B"]) * 1e9) - 1
    assert error == pytest.approx(TOTALS.get(name, 0.0), abs=1e-4 if name in TOTALS else 0.015)
    if row["published_active_B"]:
        ways = (counts.active, counts.active_without_input_table, counts.active_without_tables)
        published = float(row["published_active_B"]) * 1e9
        nearest = min((float(way) / published - 1 for way in ways), key=abs)
        assert nearest == pytest.approx(ACTIVE.get(name, 0.0), abs=1e-4 if name in ACTIVE else 0.04)
    if row["kv_bytes_per_token"]:
        listed = float(row["kv_bytes_per_token"]) * CACHE.get(name, 1.0)
        assert float(kv_bytes_per_token(model)) == listed


@needs_files
def test_the_page_has_these_counts() -> None:
    """Every row of the page's table: billions counted, or refused."""
    told = dict(re.findall(r"^\| (\S+/\S+) \|[^|]*\| ([^|]*?) \|", PAGE.read_text("utf-8"), re.M))
    assert set(told) == {name.replace("__", "/") for name in ROWS}
    for name in ROWS:
        text = told[name.replace("__", "/")]
        assert (text == "refused") == (name in REFUSED)
        if name not in REFUSED:
            assert float(text) == pytest.approx(counted(name) / 1e9, abs=0.0051)
    assert f"{len(ROWS) - len(REFUSED)} right, {len(REFUSED)} refused" in PAGE.read_text("utf-8")


CARDS = {
    # Baichuan 2, arXiv 2309.10305, table 2: 7B; 7.51B in the checkpoint.
    "baichuan": (
        7.506e9,
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "vocab_size": 125696,
        },
    ),
    # THUDM/chatglm3-6b: 6.24B.
    "chatglm": (
        6.244e9,
        {
            "add_qkv_bias": True,
            "ffn_hidden_size": 13696,
            "hidden_size": 4096,
            "kv_channels": 128,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "num_attention_heads": 32,
            "num_layers": 28,
            "padded_vocab_size": 65024,
        },
    ),
    # dots.llm1, arXiv 2506.05767: 142B.
    "dots1": (
        142e9,
        {
            "first_k_dense_replace": 1,
            "hidden_size": 4096,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "n_routed_experts": 128,
            "n_shared_experts": 2,
            "num_attention_heads": 32,
            "num_experts_per_tok": 6,
            "num_hidden_layers": 62,
            "num_key_value_heads": 32,
            "vocab_size": 152064,
        },
    ),
    # tencent/Hunyuan-7B-Instruct: 7.5B.
    "hunyuan_v1_dense": (
        7.5e9,
        {
            "head_dim": 128,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": True,
            "use_qk_norm": True,
            "vocab_size": 128167,
        },
    ),
    # internlm/internlm2-7b: 7.74B.
    "internlm2": (
        7.738e9,
        {
            "bias": False,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "vocab_size": 92544,
        },
    ),
    # MiniCPM, arXiv 2404.06395: 2.4B without the table, 2.7B with it.
    "minicpm": (
        2.725e9,
        {
            "hidden_size": 2304,
            "intermediate_size": 5760,
            "num_attention_heads": 36,
            "num_hidden_layers": 40,
            "num_key_value_heads": 36,
            "tie_word_embeddings": True,
            "vocab_size": 122753,
        },
    ),
    # mistralai/Ministral-8B-Instruct-2410: 8,019,808,256 parameters.
    "ministral": (
        8_019_808_256,
        {
            "head_dim": 128,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_attention_heads": 32,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "sliding_window": None,
            "vocab_size": 131072,
        },
    ),
}
"""Families of no file and no class beside the tests: a released model's sizes and its published
total.
"""


@pytest.mark.parametrize("family", CARDS)
def test_a_released_model_of_a_family(family: str) -> None:
    published, sizes = CARDS[family]
    model = read_config({"model_type": family, "torch_dtype": "bfloat16", **sizes})
    assert float(parameter_count(model).total) == pytest.approx(published, rel=6e-3)


READ = [
    "phi",
    "phi3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gemma3n_text",
    "gemma4_text",
    "cohere",
    "cohere2",
    "olmo",
    "olmo2",
    "olmo3",
    "starcoder2",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "opt",
    "falcon",
    "stablelm",
    "exaone4",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "ministral3",
    "qwen2",
    "qwen3",
    "qwen3_5_text",
    "qwen2_moe",
    "deepseek",
    "deepseek_v4",
    "bailing_moe",
    "hunyuan",
    "hunyuan_v1_moe",
    "ernie4_5",
    "ernie4_5_moe",
    "granite",
    "granitemoe",
    "solar_open",
    "kimi_linear",
    "longcat_flash",
    "nemotron_h",
    "jamba",
    "bamba",
    "falcon_h1",
    "mamba2",
    "smollm3",
    "lfm2",
    "minimax_m3",
    "glm_moe_dsa",
    "zamba",
    "zamba2",
]

BY_NAME = ("bitnet", "recurrent_gemma", "rwkv", "t5")


def test_every_family_is_read_or_refused_by_name() -> None:
    assert set(READ) <= set(FAMILIES)
    for family in BY_NAME:
        with pytest.raises(InputError, match=rf"'{family}' is not supported: .*--as"):
            read_config({"model_type": family})
