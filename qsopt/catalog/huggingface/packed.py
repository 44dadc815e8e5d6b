"""Methods with one format for all modules: fp8, mxfp4, int8, AWQ, GPTQ, bitsandbytes."""

import dataclasses

from qsopt.catalog.huggingface.algorithms import algorithm_format
from qsopt.catalog.huggingface.harmless import words
from qsopt.catalog.huggingface.plan import Plan, packed
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format, number_format


def fp8(reader: Reader) -> Plan:
    """fp8 weights and activations, with scales by block where `weight_block_size` is given."""
    reader.skip("activation_scheme", "fmt", "scale_fmt", "dequantize", "kv_cache_scheme")
    reader.expect("kv_cache_scheme", None)
    blocks = reader.wholes("weight_block_size") if reader.has("weight_block_size") else []
    chosen = Plan("fp8", number_format("fp8_block" if blocks else "fp8"))
    if not reader.has("moe_quant_algo"):
        return chosen
    # ModelOpt's DeepSeek-V4: experts alone are requantised, and its groups and lists say so again.
    reader.skip("config_groups", "quantized_layers", "quant_algo", "group_size", "producer")
    reader.skip("ignore", "kv_cache_quant_algo")
    experts = algorithm_format(reader, "moe_quant_algo")
    return dataclasses.replace(chosen, targets=((("experts",), experts),))


def fbgemm_fp8(reader: Reader) -> Plan:
    """fp8 weights with a scale for each row, and fp8 activations (Meta's Llama 3.1 405B)."""
    reader.skip("activation_scale_ub")
    return Plan("", number_format("fp8"))


def mxfp4(reader: Reader) -> Plan:
    """OCP mxfp4 as gpt-oss has it: routed experts only."""
    reader.skip("dequantize")
    return Plan("mxfp4", number_format("mxfp4"))


def int8(reader: Reader) -> Plan:
    """Weight-only int8 with bf16 activations: not a Hugging Face method, but what Grok-1 was
    released in (QW8Bit).
    """
    return Plan("int8", number_format("int8"))


_PACKING = words("""
    version zero_point desc_act sym damp_percent static_groups true_sequential model_seqlen backend
    checkpoint_format meta quantizer pack_dtype do_fuse fuse_max_seq_len exllama_config tokenizer
    dataset use_cuda_fp16 batch_size pad_token_id use_exllama max_input_length cache_block_outputs
    block_name_to_quantize module_name_preceding_first_block modules_in_block_to_quantize
    disable_exllama act_group_aware hyb_act mse quant_type in_group_size_search
""")
"""How AWQ and GPTQ found and packed their numbers: no effect on sizes."""


def packed_integers(reader: Reader) -> Plan:
    """AWQ and GPTQ: weight-only integers with a 16-bit scale and a packed zero for each group."""
    reader.skip(*_PACKING)
    reader.expect("lm_head", False)
    wide = tuple(name.removeprefix("-:") for name in _skipped(reader))
    return Plan("", grouped(reader, _bits(reader, "bits"), zeros=True), wide=wide)


def _skipped(reader: Reader) -> list[str]:
    """GPTQModel's `dynamic`: patterns with a minus are left wide; others change the bits."""
    if not reader.has("dynamic"):
        return []
    inner = reader.section("dynamic")
    names = inner.names()
    for name in names:
        if not name.startswith("-:"):
            raise inner.error(
                f"'{name}' gives some modules other bits, which is not supported; remove it if few "
                f"weights are meant"
            )
    inner.skip(*names)
    return [f"re:{name.removeprefix('-:')}" for name in names]


def _bits(reader: Reader, key: str) -> int:
    bits = reader.count(key)
    if bits not in (4, 8):
        raise reader.error(f"weights of {bits} bits are not supported; 4 and 8 are")
    return bits


def grouped(reader: Reader, bits: int, zeros: bool = False) -> Format:
    """Integers with one 16-bit scale, and a zero where wanted, for each `group_size` weights."""
    per_channel = reader.holds("group_size", -1) or (bits == 8 and not reader.has("group_size"))
    if per_channel:
        return packed(bits, 0.0)
    return packed(bits, (2.0 + (bits / 8 if zeros else 0.0)) / reader.count("group_size"))


def bitsandbytes(reader: Reader) -> Plan:
    """4-bit numbers with one scale per 64 (fp32, or 8 bits where they are quantised once more), or
    8-bit numbers.
    """
    reader.skip(
        "_load_in_4bit",
        "_load_in_8bit",
        "bnb_4bit_compute_dtype",
        "bnb_4bit_quant_storage",
        "llm_int8_enable_fp32_cpu_offload",
        "llm_int8_has_fp16_weight",
        "llm_int8_threshold",
    )
    eight = reader.flag("load_in_8bit", False)
    if reader.flag("load_in_4bit", False) == eight:
        raise reader.error("one of 'load_in_4bit' and 'load_in_8bit' must be true; set it")
    reader.expect("bnb_4bit_quant_type", "nf4", "fp4")
    double = reader.flag("bnb_4bit_use_double_quant", False)
    if eight:
        return Plan("", number_format("int8"))
    return Plan("", packed(4, 1 / 64 + 4 / (64 * 256) if double else 4 / 64))
