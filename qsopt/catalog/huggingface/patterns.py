"""Which layers slide, where a family says it otherwise than by `layer_types`."""

from qsopt.catalog.huggingface.attention import FULL, SLIDING
from qsopt.catalog.huggingface.layers import one_per_layer
from qsopt.catalog.huggingface.reader import Reader


def from_layer(reader: Reader, layers: int) -> list[str]:
    """Qwen: the layers from `max_window_layers` on slide."""
    full = reader.whole("max_window_layers")
    return [FULL if index < full else SLIDING for index in range(layers)]


def periodic(default: int, *keys: str):
    """The last layer of each period sees everything; the period may stand under one of `keys`."""

    def pattern(reader: Reader, layers: int) -> list[str]:
        period = default
        for key in keys:
            period = reader.count(key, period)
        return [FULL if (index + 1) % period == 0 else SLIDING for index in range(layers)]

    return pattern


def first_of(period: int):
    """The first layer of each period sees everything."""
    return lambda reader, layers: [SLIDING if index % period else FULL for index in range(layers)]


def lettered(reader: Reader, layers: int) -> list[str]:
    """EXAONE 4: a period, or a word of L (local) and G (global) that repeats; no window, no
    pattern.
    """
    if not reader.has("sliding_window"):
        reader.skip("sliding_window_pattern")
        return [FULL] * layers
    if not reader.is_text("sliding_window_pattern"):
        return periodic(4, "sliding_window_pattern")(reader, layers)
    word = reader.text("sliding_window_pattern")
    if not word or set(word) - {"L", "G"}:
        raise reader.error(
            f"field 'sliding_window_pattern' = {word!r}: it must be made of L and G, or a number"
        )
    # The class lets the last layer see everything, whatever the word says.
    types = [SLIDING if word[index % len(word)] == "L" else FULL for index in range(layers)]
    return [*types[:-1], FULL]


def neo(reader: Reader, layers: int) -> list[str]:
    """GPT-Neo: names in `attention_layers`, or repeated lists of names in `attention_types`."""
    reader.skip("attention_types")
    names = {"global": FULL, "local": SLIDING}
    listed = reader.words("attention_layers")
    for name in listed:
        if name not in names:
            raise reader.error(
                f"field 'attention_layers' holds '{name}'; only global and local are known"
            )
    return one_per_layer(reader, "attention_layers", [names[name] for name in listed], layers)
