"""Catalog of accelerators, cluster phrases and users' files: key figures, stand-ins for missing
peaks, and every refusal.

Provenance of `KEY`: memory of NVIDIA as `nvidia-smi` shows it (MiB), of AMD and Google as their
tables list it (GiB); dense peaks and one-way links as in aiconfigurator-core 0.12.0, the
ml-engineering guides (2026-08-22), InferenceX-app's registry (2026-08-15) and
docs.cloud.google.com/tpu; prices are that registry's 3-year rentals, of A100 RunPod's lowest rate.
"""

import csv
import math
import os
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from qsopt.catalog.accelerators import (
    HardwareFacts,
    accelerator_name,
    accelerator_names,
    cluster_phrase,
    hardware_facts,
    hardware_notes,
    load_accelerator,
    load_cluster,
    resized,
)
from qsopt.catalog.folder import configs
from qsopt.catalog.models import load_model
from qsopt.errors import InputError
from qsopt.fitted.expected import efficiency_for
from qsopt.report.inquiry import Inquiry
from qsopt.spec.formats import ARITHMETICS, number_format
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import GB, TFLOPS, GiB, MiB

LATER = {
    "a6000",
    "ascend-910b",
    "ascend-910c",
    "b60",
    "dgx-spark",
    "l4",
    "m4-max",
    "m5-max",
    "mi350x",
    "mi455x",
    "rtx-3090",
    "rtx-pro-6000",
    "ryzen-ai-max",
    "t4",
    "trainium3",
    "vera-rubin",
}
"""Not in the reference table; their sources stand in their files."""

NAMES = (
    *sorted(LATER),
    "a100-40gb",
    "a100-80gb",
    "h100",
    "h100-pcie",
    "h800",
    "h20",
    "h200",
    "b200",
    "b300",
    "gb200",
    "gb300",
    "l40s",
    "rtx-4090",
    "rtx-5090",
    "mi250x",
    "mi300x",
    "mi325x",
    "mi355x",
    "gaudi2",
    "gaudi3",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "tpu-v7x",
    "trainium2",
    "inferentia2",
    "m2-ultra",
    "m3-ultra",
)

# name: memory [byte], bandwidth [GB/s], bf16, fp8, fp4 [TFLOP/s], domain, scale-up, scale-out
# [GB/s], price [$/h]
KEY = {
    "h100": (81559 * MiB, 3350, 989, 1979, 1979, 8, 450, 50, 1.78),
    "h200": (143771 * MiB, 4800, 989, 1979, 1979, 8, 450, 50, 2.05),
    "b200": (183359 * MiB, 8000, 2250, 4500, 9000, 8, 900, 50, 2.60),
    "gb200": (189471 * MiB, 8000, 2500, 5000, 10000, 72, 900, 50, 2.60),
    "mi300x": (192 * GiB, 5300, 1307.4, 2614.9, 2614.9, 8, 448, 50, 1.30),
    "mi355x": (288 * GiB, 8000, 2516.6, 5033, 10066, 8, 537.6, 50, 2.10),
    "a100-80gb": (80 * GiB, 2039, 312, 312, 312, 8, 300, 25, 2.45),
    "tpu-v5p": (95 * GiB, 2765, 459, 459, 459, 8960, 600, 6.25, math.nan),
    # MI355X at 2.2 in place of 2.4 GHz: AMD at Hot Chips 2025.
    "mi350x": (288 * GiB, 8000, 2306.9, 4613.7, 9227.5, 8, 537.6, 50, math.nan),
    # A seventy-second of the rack: 288, 1,260 and 2,520 PFLOP/s, 260 TB/s of NVLink in both ways.
    "vera-rubin": (288e9, 22000, 4000, 17500, 35000, 72, 1800, 200, math.nan),
    # arXiv 2506.12708: two dies of 376 TFLOP/s, 1.6 TB/s and 64 GB; 392 GB/s of Unified Bus.
    "ascend-910c": (128 * GiB, 3200, 752, 752, 752, 384, 392, 50, math.nan),
    # AWS Neuron: 144 GiB at 4.9 TB/s, 671 bf16 and 2,517 MXFP8 or MXFP4.
    # nothing is known beyond its domain: one byte a second, with which no larger cluster is made
    "trainium3": (144 * GiB, 4900, 671, 2517, 2517, 144, 1280, 1e-9, math.nan),
    # The fp16 peak of 65 TFLOP/s is all that Turing has; PCIe 3 stands in for a link.
    "t4": (15360 * MiB, 320, 65, 65, 65, 1, 16, 16, math.nan),
}

CHIP = """
name = "My chip"

[memory]
bytes = 64_000_000_000
bandwidth_GBps = 1000

[peak_TFLOPS]
bf16 = 100

[scale_up]
devices = 4
GBps = 50

[scale_out]
GBps = 12.5
"""


def chip_file(folder: Path, text: str = CHIP) -> Path:
    path = folder / "chip.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(which: object) -> str:
    """The one line with which this cluster is refused."""
    with pytest.raises(InputError) as caught:
        load_cluster(which)  # pyright: ignore[reportArgumentType]
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", KEY)
def test_key_figures(name: str) -> None:
    chip = load_accelerator(name)
    peaks = [float(chip.peak(number_format(form))) / TFLOPS for form in ("bf16", "fp8", "nvfp4")]
    links = [
        float(speed) / GB
        for speed in (chip.bandwidth, chip.scale_up_bandwidth, chip.scale_out_bandwidth)
    ]
    memory, bandwidth, bf16, fp8, fp4, domain, inside, between, price = KEY[name]
    assert float(chip.memory_bytes) == memory
    assert float(chip.scale_up_devices) == domain
    np.testing.assert_allclose(peaks, [bf16, fp8, fp4], rtol=1e-6)
    np.testing.assert_allclose(links, [bandwidth, inside, between], rtol=1e-12)
    np.testing.assert_allclose(float(chip.price_per_hour), price)


def test_catalog_is_complete() -> None:
    assert accelerator_names() == tuple(sorted(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_loads_with_its_source(name: str) -> None:
    facts = hardware_facts(name)
    assert facts.source
    assert facts.collected
    assert facts.vendor
    assert facts.memory_kind
    assert facts.grade in ("A", "B", "C")
    assert facts.grade == "A" or facts.doubt
    assert (
        (facts.price_per_hour is None) == (facts.price_note is None) == (facts.price_date is None)
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_accelerator_is_finite_and_ordered(name: str) -> None:
    chip = load_accelerator(name)
    numbers = [
        chip.memory_bytes,
        chip.bandwidth,
        chip.scale_up_devices,
        chip.scale_up_bandwidth,
        chip.scale_out_bandwidth,
    ]
    assert all(0 < float(number) < math.inf for number in numbers)
    bf16, _, fp8, fp4 = (float(peak) for peak in chip.peak_flops)
    assert 0 < bf16 <= fp8 <= fp4


def test_the_page_has_these_figures() -> None:
    """Rows of docs/hardware.md: name, GB, TB/s, peaks, domain, links, price, its date, grade."""
    page = (Path(__file__).parents[1] / "docs" / "hardware.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w-]+)( \(announced\))? \|(.*)\|$", page, re.M)[1:]
    assert tuple(name for name, *_ in rows) == accelerator_names()
    for name, mark, cells in rows:
        facts = hardware_facts(name)
        told = [cell.strip() for cell in cells.split("|")]
        figures = [facts.memory_bytes / 1e9, facts.bandwidth / 1e12, facts.bf16 or facts.fp16]
        figures += [facts.fp8, facts.fp4, facts.scale_up_devices, facts.scale_up_bandwidth]
        figures += [facts.scale_out_bandwidth, facts.price_per_hour]
        scales = [1, 1, TFLOPS, TFLOPS, TFLOPS, 1, GB, GB, 1]
        for cell, figure, scale in zip(told[:9], figures, scales, strict=True):
            assert cell == ("" if figure is None else cell)
            assert figure is None or float(cell) == pytest.approx(figure / scale, rel=2e-2)
        assert told[9:] == [facts.price_date or "", facts.grade]
        assert bool(mark) == (facts.status is not None)


def test_announced_accelerators_are_marked() -> None:
    announced = {name for name in NAMES if hardware_facts(name).status}
    assert announced == {"vera-rubin", "mi455x"}
    for name in NAMES:
        notes = hardware_notes(load_cluster(f"1x{name}"))
        assert [note.split(":")[1] for note in notes] == (
            [" figures as announced, before hardware shipped (2026-11-26)"]
            if name in announced
            else []
        )


@pytest.mark.parametrize("name", ["rtx-3090", "rtx-4090", "rtx-5090", "a6000", "l4", "t4"])
def test_cards_of_one_host_meet_over_pcie(name: str) -> None:
    cluster, facts = load_cluster(f"8x{name}"), hardware_facts(name)
    assert float(cluster.accelerator.scale_out_bandwidth) == facts.scale_up_bandwidth
    (note,) = hardware_notes(cluster)
    assert note.startswith(f"cards are taken to meet over {facts.technology}, ")
    assert f"{(facts.scale_up_bandwidth or 0) / GB:g} GB/s in one direction" in note
    assert not hardware_notes(load_cluster(name))
    assert "use at most 8, or state scale_out.GBps" in refusal(f"9x{name}")


def test_pcie_of_an_own_card_is_asked_for(tmp_path: Path) -> None:
    alone = CHIP.replace("devices = 4", 'devices = 1\ntechnology = "PCIe 5 x16"')
    path = chip_file(tmp_path, alone.replace("[scale_out]\nGBps = 12.5\n", ""))
    with pytest.raises(InputError, match=r"scale_out\.GBps"):
        load_accelerator(path, devices=2)


@pytest.mark.parametrize("phrase", ["8xh100+8xh200", "8xh100,8xa100-80gb", "h100 and h200"])
def test_several_kinds_are_refused_by_name(phrase: str) -> None:
    assert "several kinds of accelerators in one cluster are not modelled" in refusal(phrase)


def test_several_kinds_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    for text in ('devices = 16\naccelerator = ["h100", "h200"]', '[[accelerator]]\nname = "x"'):
        path.write_text(text, encoding="utf-8")
        assert "several kinds of accelerators" in refusal(path)


def test_a_file_that_names_the_catalogs_keeps_its_fitted_errors(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('devices = 16\naccelerator = "h200"\n', encoding="utf-8")
    model, name = load_model("mixtral-8x7b"), "vllm"
    told = []
    for which in (path, "16xh200"):
        cluster = load_cluster(which)
        efficiency = efficiency_for(name, cluster.accelerator)
        service = Service(cluster, Workload(8192.0), efficiency)
        inquiry = Inquiry(model, service, efficiency_name=name)
        assert inquiry.accelerator == "h200"
        told.append((inquiry.expectation(), inquiry.cluster_name))
    assert told[0] == told[1]
    assert told[0][0] is not None


@pytest.mark.parametrize("name", NAMES)
def test_files_hold_no_zero_and_no_unknown_peak(name: str) -> None:
    with (configs() / "hardware" / f"{name}.toml").open("rb") as file:
        table = tomllib.load(file)
    assert all(value > 0 for value in table["peak_TFLOPS"].values())
    facts = hardware_facts(name)
    known = {
        key for key in ("bf16", "fp8", "int8", "fp4", "fp16", "tf32", "fp32") if getattr(facts, key)
    }
    assert known == set(table["peak_TFLOPS"])


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("bf16 = 100", (100, 100, 100, 100)),
        ("fp16 = 90", (90, 90, 90, 90)),
        ("fp16 = 90\nbf16 = 100", (100, 100, 100, 100)),
        ("bf16 = 100\nfp8 = 200", (100, 100, 200, 200)),
        ("bf16 = 100\nint8 = 30", (100, 30, 100, 100)),
        ("bf16 = 100\nfp4 = 400", (100, 100, 100, 400)),
    ],
)
def test_missing_peak_is_the_next_wider(
    tmp_path: Path, stated: str, expected: tuple[float, ...]
) -> None:
    chip = load_accelerator(chip_file(tmp_path, CHIP.replace("bf16 = 100", stated)))
    assert ARITHMETICS == ("bf16", "int8", "fp8", "fp4")
    np.testing.assert_allclose(np.asarray(chip.peak_flops) / TFLOPS, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("phrase", "devices", "name"),
    [
        ("8xmi300x", 8, "mi300x"),
        ("64xh100", 64, "h100"),
        ("1xh200", 1, "h200"),
        ("h200", 1, "h200"),
        ("rtx-4090", 1, "rtx-4090"),
        ("2xmi250x", 2, "mi250x"),
        ("9216xtpu-v7x", 9216, "tpu-v7x"),
        (" 16 X H100 ", 16, "h100"),
    ],
)
def test_phrases(phrase: str, devices: int, name: str) -> None:
    cluster = load_cluster(phrase)
    assert float(cluster.devices) == devices
    assert float(cluster.accelerator.memory_bytes) == hardware_facts(name).memory_bytes
    assert float(cluster.accelerator.scale_up_devices) == hardware_facts(name).scale_up_devices


@pytest.mark.parametrize(
    ("phrase", "devices", "domain"),
    [
        ("2x8xh200", 16, 8),
        ("1x8xh200", 8, 8),
        ("4x4xh200", 16, 4),
        (" 2 X 4 x H200 ", 8, 4),
        ("2x36xgb200", 72, 36),
        ("3x2xrtx-4090", 6, None),
        ("2x1xrtx-4090", 2, 1),
        ("2x64xtpu-v7x", 128, None),
        ("2x2xmi300x", 4, 2),
    ],
)
def test_phrases_of_domains(phrase: str, devices: int, domain: int | None) -> None:
    """The middle number is the domain: the accelerator's own, or a smaller one; links between
    domains must be known.
    """
    if domain is None:
        assert "at most" in refusal(phrase) or "scale_out.GBps" in refusal(phrase)
        return
    cluster = load_cluster(phrase)
    assert float(cluster.devices) == devices
    assert float(cluster.accelerator.scale_up_devices) == domain
    name = accelerator_name(cluster.accelerator)
    assert name is not None
    assert name == phrase.lower().split("x", 2)[2].strip(), "the domain is the node's"
    plain = load_cluster(f"{devices}x{name}")
    assert (cluster_phrase(cluster, name) == cluster_phrase(plain, name)) == (
        domain == float(plain.accelerator.scale_up_devices)
    )
    again = load_cluster(cluster_phrase(cluster, name) or "")
    assert (float(again.devices), float(again.accelerator.scale_up_devices)) == (devices, domain)
    more = resized(cluster, 4 * devices)
    assert float(more.devices) == 4 * devices
    assert float(more.accelerator.scale_up_devices) == domain


def test_two_nodes_of_eight_are_sixteen_of_domains_of_eight() -> None:
    ours, theirs = load_cluster("2x8xh200"), load_cluster("16xh200")
    for field in vars(theirs.accelerator):
        np.testing.assert_array_equal(
            getattr(ours.accelerator, field), getattr(theirs.accelerator, field)
        )


@pytest.mark.parametrize(
    "accelerator", ['accelerator = "H100"', 'accelerator = "h100.toml"', "table"]
)
def test_cluster_file_equals_catalog(tmp_path: Path, accelerator: str) -> None:
    catalog = configs() / "hardware" / "h100.toml"
    shutil.copy(catalog, tmp_path)
    inline = catalog.read_text(encoding="utf-8").replace("\n[", "\n[accelerator.")
    chip = "[accelerator]\n" + inline if accelerator == "table" else accelerator
    path = tmp_path / "cluster.toml"
    path.write_text(f"devices = 16\n{chip}\n", encoding="utf-8")
    ours, theirs = load_cluster(path), load_cluster("16xh100")
    assert float(ours.devices) == 16
    for field in vars(theirs.accelerator):
        np.testing.assert_array_equal(
            getattr(ours.accelerator, field), getattr(theirs.accelerator, field)
        )


def test_own_accelerator_in_si_units(tmp_path: Path) -> None:
    facts = hardware_facts(chip_file(tmp_path))
    assert facts == HardwareFacts(
        name="My chip",
        memory_bytes=64_000_000_000,
        bandwidth=1e12,
        bf16=1e14,
        scale_up_devices=4,
        scale_up_bandwidth=5e10,
        scale_out_bandwidth=12.5e9,
    )
    assert math.isnan(float(load_accelerator(str(tmp_path / "chip.toml")).price_per_hour))


def test_unknown_link_is_refused_only_where_used(tmp_path: Path) -> None:
    path = chip_file(tmp_path, CHIP.replace("[scale_out]\nGBps = 12.5\n", ""))
    chip = load_accelerator(path, devices=4)
    assert 0 < float(chip.scale_out_bandwidth) < math.inf
    with pytest.raises(
        InputError, match=r"My chip: .* domain of 4, and 5 devices .* scale_out\.GBps"
    ):
        load_accelerator(path, devices=5)
    for phrase in ("9xrtx-4090", "2xryzen-ai-max", "9217xtpu-v7x"):
        assert "scale_out.GBps" in refusal(phrase)


def test_single_device_needs_no_links(tmp_path: Path) -> None:
    alone = CHIP.replace("devices = 4\nGBps = 50\n", "devices = 1\n").replace(
        "[scale_out]\nGBps = 12.5\n", ""
    )
    chip = load_accelerator(chip_file(tmp_path, alone))
    assert 0 < float(chip.scale_up_bandwidth) < math.inf


@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        ("0xh100", "write a positive whole number of devices"),
        ("-3xh100", "as in 8xh100"),
        ("axh100", "cluster 'axh100'"),
        ("2.5xh100", "write a positive whole number"),
        ("xh100", "write a positive whole number"),
        ("9" * 5000 + "xh100", "write a positive whole number"),
        ("16", "and an accelerator"),
        ("8x", "and an accelerator"),
        ("2x0xh200", "write a positive whole number"),
        ("2x16xh200", "domains of at most 8; write 32xh200"),
        ("2x8x4xh200", "unknown accelerator '4xh200'"),
        ("999999999x999999999xh100", "write a positive whole number"),
        ("8xh101", "unknown accelerator 'h101': did you mean h100"),
        ("rtx-4091", "did you mean rtx-4090"),
        ("mi300", "did you mean mi300x"),
        ("h100\nb", "unknown accelerator 'h100 b'"),
        ("../models/x", "unknown accelerator"),
        ("", "unknown accelerator"),
        ("nowhere.toml", "nowhere.toml: cannot be read"),
    ],
)
def test_wrong_phrases(phrase: str, says: str) -> None:
    assert says in refusal(phrase)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("bytes = 64_000_000_000", "", "missing field memory.bytes; write a positive whole number"),
        (
            "bytes = 64_000_000_000",
            "bytes = 64e9",
            "memory.bytes = 64000000000.0; write a positive whole number",
        ),
        ("bytes =", "byte =", "unknown field 'memory.byte': did you mean memory.bytes"),
        ("bandwidth_GBps = 1000", "", "missing field memory.bandwidth_GBps"),
        (
            "bandwidth_GBps = 1000",
            'bandwidth_GBps = "1000"',
            "memory.bandwidth_GBps = '1000'; write a positive finite number",
        ),
        ("bandwidth_GBps = 1000", "bandwidth_GBps = 0", "memory.bandwidth_GBps = 0"),
        ("bandwidth_GBps = 1000", "bandwidth_GBps = -1", "memory.bandwidth_GBps = -1"),
        ("bandwidth_GBps = 1000", "bandwidth_GBps = nan", "memory.bandwidth_GBps = nan"),
        ("bandwidth_GBps = 1000", "bandwidth_GBps = inf", "memory.bandwidth_GBps = inf"),
        ("bandwidth_GBps = 1000", "bandwidth_GBps = 1" + "0" * 400, "memory.bandwidth_GBps = 1000"),
        ("bandwidth_GBps = 1000", "bandwidth_GBps = true", "memory.bandwidth_GBps = True"),
        ("bf16 = 100", "fp8 = 200", "missing field peak_TFLOPS.bf16"),
        ("bf16 = 100", "bf16 = 100\nfp6 = 300", "unknown field 'peak_TFLOPS.fp6'"),
        ("bf16 = 100", "bf16 = [100]", "peak_TFLOPS.bf16 = [100]"),
        (
            "[peak_TFLOPS]",
            "[peak_TFLOP]",
            "unknown field 'peak_TFLOP.bf16': did you mean peak_TFLOPS.bf16",
        ),
        ("[scale_out]", "[price]\n[scale_out]", "unknown field 'price': did you mean price"),
        ("[scale_out]", "[[scale_out]]", "unknown field 'scale_out': did you mean scale_out."),
        (
            "[scale_out]",
            "[scale_out]\nGbps = 100",
            "unknown field 'scale_out.Gbps': did you mean scale_out.GBps",
        ),
        ("devices = 4", "", "missing field scale_up.devices"),
        ("devices = 4", "devices = 4.0", "scale_up.devices = 4.0; write a positive whole number"),
        ("GBps = 50", "", "missing field scale_up.GBps"),
        ('name = "My chip"', "", "missing field name; write a text in quotes"),
        ('name = "My chip"', 'name = ""', "name = ''; write a text in quotes"),
        ('name = "My chip"', "name = 3", "name = 3; write a text in quotes"),
        ('"My chip"', '"My chip"\n"a\\nb" = 1', "unknown field 'a b'"),
        (
            "[scale_out]",
            '[provenance]\ndate = "2026"\n[scale_out]',
            "provenance.date = '2026'; write a date without quotes",
        ),
        (
            "[scale_out]",
            "[provenance]\ndate = 2026-01-01T00:00:00\n[scale_out]",
            "write a date without quotes",
        ),
        ("bf16 = 100", "bf16 = ", "not valid TOML"),
        ("bf16 = 100", "bf16 = 100\nbf16 = 200", "not valid TOML"),
    ],
)
def test_wrong_accelerator_files(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in CHIP
    path = chip_file(tmp_path, CHIP.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_accelerator(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('accelerator = "h100"', "missing field devices; write a positive whole number"),
        ("devices = 8", "missing field accelerator; write a catalog name"),
        ('devices = 0\naccelerator = "h100"', "devices = 0"),
        ('devices = -8\naccelerator = "h100"', "devices = -8"),
        ('devices = 8.5\naccelerator = "h100"', "devices = 8.5"),
        ('devices = "8"\naccelerator = "h100"', "devices = '8'"),
        ('device = 8\naccelerator = "h100"', "unknown field 'device': did you mean devices"),
        ("devices = 8\naccelerator = 100", "accelerator = 100; write a catalog name"),
        (
            'devices = 8\naccelerator = "h101"',
            "accelerator: unknown accelerator 'h101': did you mean h100",
        ),
        ('devices = 8\naccelerator = "gone.toml"', "gone.toml: cannot be read"),
        ("devices = 8\n[accelerator]\n", "[accelerator]: missing field name"),
        ('devices = 9\naccelerator = "rtx-4090"', "state scale_out.GBps"),
        ("devices = = 8", "not valid TOML"),
        (CHIP, "unknown field 'memory'"),
    ],
)
def test_wrong_cluster_files(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    message = refusal(path)
    assert says in message
    assert "cluster.toml" in message or "RTX 4090" in message


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "cannot be read" in refusal(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert "folder.toml: cannot be read" in refusal(folder)


REFERENCE = (
    Path(os.environ.get("QSOPT_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
    / "hardware.csv"
)

COLUMNS = {
    "mem_bytes": ("memory_bytes", 1),
    "mem_bw_GBps": ("bandwidth", GB),
    "scaleup_domain": ("scale_up_devices", 1),
    "scaleup_unidir_GBps": ("scale_up_bandwidth", GB),
    "scaleout_unidir_GBps": ("scale_out_bandwidth", GB),
    "tdp_W": ("tdp", 1),
    **{f"{peak}_TFLOPS": (peak, TFLOPS) for peak in ("bf16", "fp8", "fp4", "fp16", "tf32", "fp32")},
    "int8_TOPS": ("int8", TFLOPS),
}


def row_name(label: str) -> str:
    """`A100-80GB SXM` is a100-80gb, `GB200 NVL72 (per GPU)` is gb200, `TPU7x Ironwood` is
    tpu-v7x.
    """
    words = label.lower().split(" (")[0].replace("tpu7x", "tpu v7x").replace("apple ", "")
    two = words.startswith(("rtx", "tpu", "m2", "m3", "h100 pcie"))
    return "-".join(words.split()[: 2 if two else 1])


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the table of reference figures is not here")
def test_files_equal_reference_table() -> None:
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        rows = {row_name(row["name"]): row for row in csv.DictReader(file)}
    assert {*rows} - {"groq"} == {*NAMES} - LATER
    for name in {*NAMES} - LATER:
        facts = hardware_facts(name)
        for column, (field, unit) in COLUMNS.items():
            text = rows[name][column]
            assert getattr(facts, field) == (float(text) * unit if text else None), (name, column)
        rental = re.search(r"rental ([\d.]+)", rows[name]["price_usd_per_gpu_hour"])
        assert rental is None or facts.price_per_hour == float(rental[1]), name
