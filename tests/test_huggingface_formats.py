"""Number formats of checkpoints as they are published."""

import json
import re
from pathlib import Path

import pytest
from huggingface_configs import DEEPSEEK, LLAMA, MIXTRAL, RELEASED, formats

from qsopt.api.names import load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.huggingface import read_config
from qsopt.catalog.huggingface.stored import weight_bytes
from qsopt.errors import InputError
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.memory import memory
from qsopt.spec.deployment import Deployment
from qsopt.spec.formats import format_name, number_format
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

FP8 = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "weight_block_size": [128, 128],
}
INT4_GROUP = {
    "targets": ["Linear"],
    "weights": {
        "num_bits": 4,
        "type": "int",
        "strategy": "group",
        "group_size": 32,
        "symmetric": True,
    },
}
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": INT4_GROUP},
}


@pytest.mark.parametrize(
    ("quantisation", "expected"),
    [
        (FP8, ("fp8_block", "fp8_block", "fp8_block", "bf16")),
        ({"quant_method": "fp8"}, ("fp8", "fp8", "fp8", "bf16")),
        (
            {**FP8, "modules_to_not_convert": ["gate", "lm_head"]},
            ("fp8_block", "fp8_block", "fp8_block", "bf16"),
        ),
        (
            {**FP8, "modules_to_not_convert": ["model.layers.*.self_attn"]},
            ("bf16", "fp8_block", "fp8_block", "bf16"),
        ),
        (
            {**FP8, "modules_to_not_convert": ["model.layers.*.mlp"]},
            ("fp8_block", "bf16", "bf16", "bf16"),
        ),
        (
            {**FP8, "modules_to_not_convert": ["model.layers.3.input_layernorm"]},
            ("fp8_block",) * 3 + ("bf16",),
        ),
        ({"quant_method": "mxfp4"}, ("bf16", "bf16", "mxfp4", "bf16")),
        ({"quant_method": "int8"}, ("int8", "int8", "int8", "bf16")),
        (
            {
                "quant_method": "fbgemm_fp8",
                "activation_scale_ub": 1200.0,
                "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
            },
            ("bf16", "fp8", "fp8", "bf16"),
        ),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("int4", "int4", "int4", "bf16")),
        (
            {
                **PACKED,
                "ignore": [
                    "lm_head",
                    "re:.*self_attn.*",
                    "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
                ],
            },
            ("bf16", "bf16", "int4", "bf16"),
        ),
        ({**PACKED, "ignore": ["re:.*shared_experts.*"]}, ("int4", "bf16", "int4", "bf16")),
        ({**PACKED, "ignore": ["re:.*mlp\\.shared_expert$"]}, ("int4", "int4", "int4", "bf16")),
    ],
)
def test_formats(quantisation: dict, expected: tuple[str, ...]) -> None:
    assert formats(read_config({**MIXTRAL, "quantization_config": quantisation})) == expected


def test_int4_weighs_its_group() -> None:
    model = read_config({**MIXTRAL, "quantization_config": PACKED})
    assert float(model.precision.experts.bytes) == 0.5 + 2 / 32


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "torch.bfloat16"])
def test_wide_types_are_served_as_bf16(name: str) -> None:
    assert formats(read_config({**LLAMA, "torch_dtype": name})) == ("bf16",) * 4
    assert formats(read_config({**LLAMA, "torch_dtype": None, "dtype": name})) == ("bf16",) * 4


# ---- ModelOpt ------------------------------------------------------------------------------------

NVFP4_ALGORITHM = {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": "FP8"}


def checkpoint(folder: Path, config: dict, **beside: dict) -> Path:
    """A folder with a config and, under their names, what lies beside it."""
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in beside.items():
        (folder / f"{name.replace('__', '.')}.json").write_text(json.dumps(content))
    return folder


def test_quantisation_beside_the_config(tmp_path: Path) -> None:
    """Read as bf16, this would weigh three times as much."""
    table = {"quantization": {**NVFP4_ALGORITHM, "exclude_modules": ["lm_head", "*.self_attn*"]}}
    model = read_config(checkpoint(tmp_path, DEEPSEEK, hf_quant_config=table))
    assert formats(model) == ("bf16", "nvfp4", "nvfp4", "bf16")
    assert format_name(model.precision.kv_cache) == "fp8"
    assert float(kv_bytes_per_token(model)) == 4 * (16 + 4)


def test_quantisation_beside_completes_that_in_the_config(tmp_path: Path) -> None:
    own = {"quant_method": "modelopt", "quant_algo": "FP8"}
    table = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    config = {**LLAMA, "quantization_config": own}
    model = read_config(checkpoint(tmp_path, config, hf_quant_config=table))
    assert formats(model)[:2] == ("fp8", "fp8")
    assert format_name(model.precision.kv_cache) == "fp8"


def test_quantisation_beside_that_contradicts(tmp_path: Path) -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}
    folder = checkpoint(tmp_path, config, hf_quant_config={"quantization": NVFP4_ALGORITHM})
    with pytest.raises(InputError, match=r"'FP8', but hf_quant_config.json beside .* 'NVFP4'"):
        read_config(folder)


@pytest.mark.parametrize(
    ("algorithm", "size", "computed_as"),
    [
        ({"quant_algo": "FP8"}, 1.0, "fp8"),
        ({"quant_algo": "NVFP4", "group_size": 16}, 9 / 16, "nvfp4"),
        ({"quant_algo": "W4A16_NVFP4", "group_size": 16}, 9 / 16, "int4"),
        ({"quant_algo": "W4A8_AWQ", "group_size": 128}, 0.5 + 2 / 128, "fp8"),
        ({"quant_algo": "W4A16_AWQ", "group_size": 64}, 0.5 + 2 / 64, "int4"),
        ({"quant_algo": "MXFP8"}, 33 / 32, "fp8_block"),
        ({"quant_algo": "INT8_SQ"}, 1.0, "fp8"),
    ],
)
def test_algorithms(algorithm: dict, size: float, computed_as: str) -> None:
    section = {"quant_method": "modelopt", **algorithm}
    chosen = read_config({**LLAMA, "quantization_config": section}).precision.attention
    assert float(chosen.bytes) == size
    assert format_name(chosen) == computed_as


def test_an_algorithm_for_each_module() -> None:
    """Nemotron 3.5 and Qwen 3.6: attention fp8, most of the feed-forward 4-bit, the head too."""
    layers = {f"model.layers.{i}.self_attn.{p}_proj": {"quant_algo": "FP8"}
              for i in range(4) for p in "qkvo"}  # fmt: skip
    names = ("gate_proj", "up_proj", "down_proj")
    layers |= {f"model.layers.{i}.mlp.{p}": {"quant_algo": "W4A16_NVFP4", "group_size": 16}
               for i in range(3) for p in names}  # fmt: skip
    layers["lm_head"] = {"quant_algo": "W4A16_NVFP4", "group_size": 16}
    section = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": layers,
    }
    chosen = read_config({**LLAMA, "quantization_config": section}).precision
    assert float(chosen.attention.bytes) == 1.0
    assert float(chosen.ffn.bytes) == (3 * 9 / 16 + 2) / 4
    assert float(chosen.tables.bytes) == (2 + 9 / 16) / 2


# ---- modules by name -----------------------------------------------------------------------------

GROUP4 = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}
INT4 = 0.5 + 2 / 32


def bytes_of(
    config: dict, *, targets: list[str] | None = None, ignore: tuple[str, ...] | list[str] = ()
) -> tuple:
    """Bytes of attention, dense and shared layers, and experts of an int4 checkpoint."""
    group = {**GROUP4, "targets": ["Linear"] if targets is None else targets}
    section = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": list(ignore),
    }
    chosen = read_config({**config, "quantization_config": section}).precision
    return tuple(float(form.bytes) for form in (chosen.attention, chosen.ffn, chosen.experts))


# One layer of LLAMA has projections of 64 x 64, 64 x 16, 64 x 16 and 64 x 64.
QUERY, KEYS, ATTENTION = 64 * 64, 2 * 64 * 16, 2 * 64 * 64 + 2 * 64 * 16


@pytest.mark.parametrize(
    ("name", "wide"),
    [
        ("model.layers.0.self_attn.q_proj", QUERY / (4 * ATTENTION)),
        ("model.layers.0.self_attn*", 1 / 4),
        ("model.layers.0*", 1 / 4),
        ("model.layers.1.self_attn.qkv_proj", (QUERY + KEYS) / (4 * ATTENTION)),
        ("re:.*layers\\.[12]\\.self_attn.*", 1 / 2),
        ("re:.*self_attn\\.o_proj", QUERY / ATTENTION),
        ("self_attn.k_proj", KEYS / 2 / ATTENTION),
        ("self_attn", 1.0),
        ("mtp.layers.0.self_attn.q_proj", 0.0),
        ("model.layers.0.input_layernorm", 0.0),
        ("lm_head", 0.0),
    ],
)
def test_attention_left_wide(name: str, wide: float) -> None:
    found, dense, _ = bytes_of(LLAMA, ignore=[name])
    assert found == pytest.approx(wide * 2 + (1 - wide) * INT4)
    # Of these names only a whole layer means its feed-forward too.
    assert dense == pytest.approx(2 / 4 + INT4 * 3 / 4 if name.endswith("layers.0*") else INT4)


@pytest.mark.parametrize(
    ("name", "dense", "experts"),
    [
        ("model.layers.1.mlp.experts.0.gate_proj", 0, 1 / (3 * 8 * 3)),
        ("model.layers.1.mlp.experts.0", 0, 1 / (3 * 8)),
        ("model.layers.1.mlp.experts", 0, 1 / 3),
        ("re:.*shared_experts.*", 3 * 64 / (3 * 64 + 96), 0),
        ("model.layers.2.mlp.shared_experts*", 64 / (3 * 64 + 96), 0),
        ("model.layers.0.mlp.up_proj", 32 / (3 * 64 + 96), 0),
        ("model.layers.*.mlp", 1, 1),
        ("model.layers.2.mlp.gate", 0, 0),
    ],
)
def test_feed_forward_left_wide(name: str, dense: float, experts: float) -> None:
    """A dense layer 96 wide and three of eight experts 32 wide with two shared ones."""
    _, found, routed = bytes_of(DEEPSEEK, ignore=[name])
    assert found == pytest.approx(dense * 2 + (1 - dense) * INT4)
    assert routed == pytest.approx(experts * 2 + (1 - experts) * INT4)


def test_targets_are_not_all_layers() -> None:
    """Read as int4 everywhere before."""
    assert bytes_of(MIXTRAL, targets=["re:.*experts.*"]) == (2.0, 2.0, INT4)
    assert bytes_of(MIXTRAL, targets=["re:.*self_attn.*"])[0] == INT4


def test_most_weights_decide_the_arithmetic() -> None:
    section = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0*"]}
    found = read_config({**LLAMA, "quantization_config": section}).precision.attention
    assert float(found.bytes) == 1.25
    assert format_name(found) == "fp8"


@pytest.mark.parametrize(
    ("section", "size"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 0.5 + 2.5 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, 1 + 3 / 32),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 0.5),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 0.5 + 2.5 / 64),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 0.5 + 4 / 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 1.0),
    ],
)
def test_groups_and_their_scales(section: dict, size: float) -> None:
    found = read_config({**LLAMA, "quantization_config": section}).precision
    assert float(found.attention.bytes) == float(found.ffn.bytes) == size


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "pruned weights are stored"),
        ({"kv_cache_scheme": {"num_bits": 6, "type": "int"}}, "a cache of 6-bit int"),
        ({"ignore": ["model.layers.0.foo"]}, "'model.layers.0.foo' among the modules"),
        ({"ignore": ["re:.*("]}, "is no regular expression"),
        ({"ignore": ["re:.*mixer_of_foo.*"]}, "among the modules is not understood"),
        ({"config_groups": {"a": GROUP4, "b": GROUP4}}, "'b' targets all linear layers"),
    ],
)
def test_refused_by_name(change: dict, named: str) -> None:
    section = {"quant_method": "compressed-tensors", "config_groups": {"group_0": GROUP4}, **change}
    with pytest.raises(InputError, match=re.escape(named)):
        read_config({**LLAMA, "quantization_config": section})


def test_pruning_that_is_none() -> None:
    section = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": GROUP4},
        "sparsity_config": {"format": "dense", "global_sparsity": 0.01},
    }
    assert formats(read_config({**LLAMA, "quantization_config": section}))[0] == "int4"


# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "deepseek_v3", "gemma3n_text", "nemotron_h", "lfm2"])
def test_bytes_of_a_checkpoint_are_those_of_memory(family: str) -> None:
    """Two counts of one thing: that of the importer, and the weights of one device."""
    model = read_config(
        {**RELEASED[family]["config"], "quantization_config": {"quant_method": "fp8"}}
    )
    service = Service(load_cluster("1xb300"), Workload(1.0), load_efficiency("ideal"))
    on_device = memory(model, service, Deployment()).weights
    assert weight_bytes(model) == pytest.approx(float(on_device), rel=1e-9)


def test_index_beside_the_config(tmp_path: Path) -> None:
    stored = weight_bytes(read_config(LLAMA))
    for factor in (0.985, 1.0, 1.015):
        index = {"metadata": {"total_size": int(factor * stored)}}
        read_config(checkpoint(tmp_path, LLAMA, model__safetensors__index=index))
    index = {"metadata": {"total_size": int(stored / 2)}}
    folder = checkpoint(tmp_path, LLAMA, model__safetensors__index=index)
    with pytest.raises(InputError, match=r"tensors weigh .* check 'quantization_config'"):
        read_config(folder)
    assert read_config(folder, ignore=["model.safetensors.index.json"])


def test_index_with_prediction_modules(tmp_path: Path) -> None:
    """DeepSeek-V3 stores 685B parameters, of which 14B are a module that decoding does not run."""
    stored = weight_bytes(read_config(DEEPSEEK))
    index = {"metadata": {"total_size": int(1.2 * stored)}}
    config = {**DEEPSEEK, "num_nextn_predict_layers": 1}
    assert read_config(checkpoint(tmp_path, config, model__safetensors__index=index))
    with pytest.raises(InputError, match="tensors weigh"):
        read_config(checkpoint(tmp_path, DEEPSEEK, model__safetensors__index=index))


def test_index_of_a_wide_checkpoint(tmp_path: Path) -> None:
    config = {**LLAMA, "torch_dtype": "float32"}
    index = {"metadata": {"total_size": int(2 * weight_bytes(read_config(LLAMA)))}}
    assert read_config(checkpoint(tmp_path, config, model__safetensors__index=index))


@pytest.mark.parametrize(
    ("name", "bits", "stand_in"), [("q4_k_m", 4.84, "int4"), ("Q8_0", 8.5, "int8")]
)
def test_formats_of_llama_cpp(name: str, bits: float, stand_in: str) -> None:
    form = number_format(name)
    assert float(form.bytes) == bits / 8
    assert format_name(form) == stand_in
