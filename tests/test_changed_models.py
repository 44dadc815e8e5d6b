"""Models with other sizes: counts follow, what cannot be is refused with a remedy."""

import pytest

import qsopt
from qsopt.spec.model import moe_layers


def total(model: qsopt.Model) -> float:
    return float(qsopt.parameter_count(model).total)


def test_more_experts_add_their_own_parameters() -> None:
    mixtral = qsopt.load_model("mixtral-8x7b")
    more = mixtral.with_(experts=16, top_k=4)
    each = 3.0 * 4096 * 14336
    router = 4096
    assert total(more) - total(mixtral) == pytest.approx(8 * 32 * (each + router), rel=1e-12)
    kind = moe_layers(more)
    assert kind is not None and (float(kind.experts), float(kind.top_k)) == (16.0, 4.0)
    same = moe_layers(mixtral)
    assert same is not None and float(same.top_k) == 2.0, "the model itself is as it was"


def test_layers_keep_the_mix() -> None:
    deep = qsopt.load_model("deepseek-v3").with_(layers=31)
    counts = [float(group.count) for group in deep.decoder.ffn]
    assert counts == [3.0, 28.0]
    assert [float(group.count) for group in deep.decoder.attention] == [31.0]
    hybrid = qsopt.load_model("qwen3-next-80b-a3b")
    half = hybrid.with_(layers=24)
    assert sorted(float(group.count) for group in half.decoder.attention) == [6.0, 18.0]


def test_no_change_is_the_same_model() -> None:
    model = qsopt.load_model("qwen3-30b-a3b")
    assert total(model.with_(layers=48, top_k=8, hidden=2048)) == total(model)


@pytest.mark.parametrize(
    ("name", "sizes", "said"),
    [
        ("mixtral-8x7b", {"top_k": 9}, "set 0 < top_k <= experts"),
        ("mixtral-8x7b", {"top_k": 1.5}, "top_k = 1.5: give a whole number, 1 or more"),
        ("mixtral-8x7b", {"width": 8}, "size 'width'"),
        ("mixtral-8x7b", {"kv_heads": 5}, "take a divisor of heads"),
        ("mixtral-8x7b", {"ffn_width": 8}, "give expert_width"),
        ("deepseek-v3", {"experts": 250}, "take a multiple of groups"),
        ("deepseek-v3", {"heads": 64}, "no grouped attention"),
        ("deepseek-v3", {"layers": 3}, "3 leading layers are dense; take more"),
        ("qwen3-next-80b-a3b", {"layers": 26}, "take 24 or 28"),
        ("qwen3-14b", {"experts": 8}, "the model is dense"),
    ],
)
def test_what_cannot_be_is_refused(name: str, sizes: dict[str, float], said: str) -> None:
    with pytest.raises(qsopt.InputError, match=said):
        qsopt.load_model(name).with_(**sizes)
