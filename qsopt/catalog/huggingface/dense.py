"""Dense families: Llama and its relatives, Gemma, Falcon, GPT-2 and Nemotron."""

from qsopt.catalog.huggingface.attention import (
    FULL,
    SLIDING,
    Bias,
    Heads,
    QkNorm,
    checked,
    divided,
    every,
    gqa,
    heads,
    mixed_windows,
    one_window,
)
from qsopt.catalog.huggingface.ffn import biases, dense, ungated
from qsopt.catalog.huggingface.layers import Sizes, decoder_model, sizes, with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Attention, DenseFfn, Gqa, Model


def llama(reader: Reader) -> Model:
    """Llama 2 and 3: `attention_bias` puts a bias on all four projections."""
    size = sizes(reader)
    bias: Bias = "all" if reader.flag("attention_bias", False) else "none"
    attention = gqa(heads(reader, size.hidden, kv_default=True), size.hidden, bias=bias)
    width = reader.count("intermediate_size")
    odds = biases(width, size.hidden, 3) if reader.flag("mlp_bias", False) else 0
    ffn = with_small(dense(width, size.hidden), odds)
    return decoder_model(reader, size, [attention] * size.layers, [ffn] * size.layers)


def mistral(reader: Reader) -> Model:
    """Mistral: one window for all layers, or null."""
    size = sizes(reader)
    attention = gqa(heads(reader, size.hidden), size.hidden)
    ffn = dense(reader.count("intermediate_size"), size.hidden)
    return decoder_model(
        reader, size, one_window(reader, size, attention, stated=True), [ffn] * size.layers
    )


def qwen2(reader: Reader) -> Model:
    """Qwen 2 and 2.5: query, key and value have a bias."""
    size = sizes(reader)
    return _qwen(reader, size, gqa(heads(reader, size.hidden), size.hidden, bias="qkv"))


def qwen3(reader: Reader) -> Model:
    """Qwen 3: a norm on each head of query and key."""
    size = sizes(reader)
    bias: Bias = "all" if reader.flag("attention_bias", False) else "none"
    return _qwen(
        reader,
        size,
        gqa(heads(reader, size.hidden, dim_default=False), size.hidden, bias=bias, qk_norm="head"),
    )


def qwen_windows(reader: Reader, size: Sizes, kind: Gqa) -> list[Attention]:
    """With `use_sliding_window`, the layers from `max_window_layers` on slide; else the window's
    fields are idle.
    """
    if not reader.flag("use_sliding_window", False):
        reader.skip("max_window_layers", "sliding_window")
        return mixed_windows(reader, size, kind, [FULL] * size.layers)
    full = reader.whole("max_window_layers")
    return mixed_windows(
        reader, size, kind, [FULL if index < full else SLIDING for index in range(size.layers)]
    )


def _qwen(reader: Reader, size: Sizes, kind: Gqa) -> Model:
    ffn = dense(reader.count("intermediate_size"), size.hidden)
    return decoder_model(reader, size, qwen_windows(reader, size, kind), [ffn] * size.layers)


def gemma2(reader: Reader) -> Model:
    """Gemma 2: every second layer slides, beginning with the first."""
    return _gemma(reader, 2, "none")


def gemma3(reader: Reader) -> Model:
    """Gemma 3, text model: five layers slide and the sixth does not; a norm on each head of query
    and key.
    """
    return _gemma(
        reader,
        reader.count("sliding_window_pattern", reader.count("_sliding_window_pattern", 6)),
        "head",
    )


def _gemma(reader: Reader, period: int, qk_norm: QkNorm) -> Model:
    """Norms stand before and after both blocks, and the tables are tied."""
    reader.expect("attention_bias", False)
    reader.expect("use_bidirectional_attention", False, None)
    size = sizes(reader)
    kind = gqa(heads(reader, size.hidden, dim_default=False), size.hidden, qk_norm=qk_norm, norms=2)
    ffn = with_small(dense(reader.count("intermediate_size"), size.hidden), size.hidden)
    attention = mixed_windows(reader, size, kind, every(period, size.layers, SLIDING))
    return decoder_model(reader, size, attention, [ffn] * size.layers, tied=True)


def ernie(reader: Reader) -> Model:
    """ERNIE 4.5, dense: tied unless said otherwise."""
    reader.expect("use_bias", False)
    size = sizes(reader)
    attention = gqa(heads(reader, size.hidden, dim_default=False), size.hidden)
    ffn = dense(reader.count("intermediate_size"), size.hidden)
    return decoder_model(reader, size, [attention] * size.layers, [ffn] * size.layers, tied=True)


def nemotron(reader: Reader) -> Model:
    """Nemotron-4: ungated squared ReLU."""
    reader.expect("attention_bias", False)
    reader.expect("mlp_bias", False)
    size = sizes(reader)
    attention = gqa(heads(reader, size.hidden, kv_default=True), size.hidden)
    return _with_layer_norms(
        reader, size, attention, ungated(reader.count("intermediate_size"), size.hidden)
    )


def falcon(reader: Reader) -> Model:
    """Falcon 40B and 180B: ungated, attention and feed-forward side by side, each with its norm;
    tied by default.
    """
    reader.expect("bias", False)
    reader.expect("alibi", False)
    reader.expect("num_ln_in_parallel_attn", 2)
    if not reader.flag("new_decoder_architecture", False):
        raise reader.error(
            "field 'new_decoder_architecture' is not true: only Falcon 40B and 180B are supported"
        )
    # Under the new architecture these two no longer decide anything.
    reader.skip("multi_query", "parallel_attn")
    size = sizes(reader)
    query = reader.count("num_attention_heads")
    head = checked(
        reader,
        Heads(query, reader.count("num_kv_heads", query), divided(reader, size.hidden, query)),
    )
    ffn = ungated(reader.count("ffn_hidden_size", 4 * size.hidden), size.hidden)
    return _with_layer_norms(reader, size, gqa(head, size.hidden), ffn, tied=True)


def gpt2(reader: Reader) -> Model:
    """GPT-2 and GPT-3: multi-head, ungated, everything biased, learned positions (they count as
    small), tied.
    """
    reader.expect("add_cross_attention", False)
    size = sizes(reader, "n_embd", "n_layer")
    query, width = reader.count("n_head"), reader.count("n_inner", 4 * size.hidden)
    attention = gqa(
        Heads(query, query, divided(reader, size.hidden, query)), size.hidden, bias="all"
    )
    ffn = with_small(ungated(width, size.hidden), biases(width, size.hidden, 2))
    model = _with_layer_norms(reader, size, attention, ffn, tied=True)
    return with_small(model, reader.count("n_positions") * size.hidden)


def _with_layer_norms(
    reader: Reader, size: Sizes, attention: Gqa, ffn: DenseFfn, tied: bool = False
) -> Model:
    """A model of equal layers whose norms have a bias beside the weight."""
    layers = (
        [with_small(attention, size.hidden)] * size.layers,
        [with_small(ffn, size.hidden)] * size.layers,
    )
    return with_small(decoder_model(reader, size, *layers, tied=tied), size.hidden)
