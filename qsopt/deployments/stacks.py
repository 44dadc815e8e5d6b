"""What serving software can run: which layouts each has, and how it names them.

| software | layouts | documentation |
|---|---|---|
| vLLM | attention t x D; experts as one tensor group of all t D devices, or with expert parallelism one or more whole experts on each, nothing between; a dense model under data parallelism is D independent replicas; tokens are dispatched only under data parallelism; context parallel decode | docs.vllm.ai: Data Parallel Deployment, Expert Parallel Deployment, Context Parallel Deployment |
| SGLang | attention data parallelism with the feed-forward layers over all devices, for dense models too; any expert parallel size, dispatch with one expert rank on each device; context parallel decode for latent attention | docs.sglang.ai: DP, DPA and SGLang DP Router; Expert Parallelism; Server Arguments |
| TensorRT-LLM | attention wholly data parallel or wholly tensor parallel; any split of experts; dispatch under attention data parallelism; Helix context parallelism for decode | nvidia.github.io/TensorRT-LLM: Parallelism in TensorRT LLM |
"""  # noqa: E501  (a table)

from collections.abc import Callable
from typing import NamedTuple

from qsopt.spec.rules import Stack


class Layout(NamedTuple):
    """Sizes of a layout as whole numbers."""

    tensor: int
    data: int
    pipeline: int
    expert: int
    dispatched: float
    dcp: int = 1
    expert_slots: int = 0

    @property
    def stage(self) -> int:
        """Devices of a stage."""
        return self.tensor * self.data


class Traits(NamedTuple):
    """What software asks of a model."""

    routed: bool
    """Whether it has routed experts."""
    latent: bool
    """Whether all of its attention that keeps a cache is latent."""


def _any(_layout: Layout, _model: Traits) -> bool:
    return True


def _vllm(layout: Layout, model: Traits) -> bool:
    if not model.routed:
        return layout.data == 1
    whole = layout.expert in (1, layout.stage)
    return whole and (not layout.dispatched or layout.data > 1)


def _sglang(layout: Layout, model: Traits) -> bool:
    dispatch = not layout.dispatched or layout.expert == layout.stage
    return dispatch and (layout.dcp == 1 or model.latent)


def _trtllm(layout: Layout, _model: Traits) -> bool:
    return 1 in (layout.tensor, layout.data) and (not layout.dispatched or layout.data > 1)


RUNS: dict[Stack, Callable[[Layout, Traits], bool]] = {
    "any": _any,
    "vllm": _vllm,
    "sglang": _sglang,
    "trtllm": _trtllm,
}
"""Whether a software can run a layout of a model."""


def in_words(layout: Layout, batch: int, stack: Stack, model: Traits) -> str:
    """The layout in the software's own words, with the sequences that each attention rank holds.

    Args:
        layout: sizes.
        batch: sequences of a replica.
        stack: whose words.
        model: what it serves.
    """
    words = {"any": _plain_words, "vllm": _vllm_words, "sglang": _sglang_words}
    per_rank = batch // (layout.data * layout.pipeline)
    held = f"{per_rank} sequences per rank" if layout.data > 1 else f"{batch} sequences"
    if layout.pipeline > 1:
        held += f" and stage ({layout.pipeline} microbatches)" if layout.data > 1 else ""
    return f"{words.get(stack, _trtllm_words)(layout, model)}; {held}"


def _plain_words(layout: Layout, model: Traits) -> str:
    parts = [f"attention tp {layout.tensor} x dp {layout.data}"]
    if layout.pipeline > 1:
        parts.append(f"pp {layout.pipeline}")
    if layout.dcp > 1:
        parts.append(f"{layout.dcp} ranks share a cache")
    if model.routed:
        way = "dispatched" if layout.dispatched else "gathered"
        split = f"experts ep {layout.expert} x tp {layout.stage // layout.expert}"
        parts.append(f"{split}, tokens {way}" if layout.expert > 1 else split)
    elif layout.data > 1:
        parts.append(f"feed-forward layers tp {layout.stage}")
    if layout.expert_slots:
        parts.append(f"{layout.expert_slots} places for experts")
    return ", ".join(parts)


def _vllm_words(layout: Layout, model: Traits) -> str:
    flags = [f"--tensor-parallel-size {layout.tensor}"]
    if layout.data > 1:
        flags.append(f"--data-parallel-size {layout.data}")
    if layout.pipeline > 1:
        flags.append(f"--pipeline-parallel-size {layout.pipeline}")
    if layout.dcp > 1:
        flags.append(f"--decode-context-parallel-size {layout.dcp}")
    if model.routed and layout.expert > 1:
        flags.append("--enable-expert-parallel")
        if layout.dispatched:
            flags.append("--all2all-backend deepep_low_latency")
    if layout.expert_slots:
        flags.append("--enable-eplb")
    return " ".join(flags)


def _sglang_words(layout: Layout, model: Traits) -> str:
    flags = [f"--tp-size {layout.stage}"]
    if layout.data > 1:
        flags.append(f"--dp-size {layout.data} --enable-dp-attention")
    if layout.pipeline > 1:
        flags.append(f"--pp-size {layout.pipeline}")
    if layout.dcp > 1:
        flags.append(f"--dcp-size {layout.dcp}")
    if model.routed and layout.expert > 1:
        flags.append(f"--ep-size {layout.expert}")
        if layout.dispatched:
            flags.append("--moe-a2a-backend deepep")
    if layout.expert_slots:
        flags.append("--enable-eplb")
    return " ".join(flags)


def _trtllm_words(layout: Layout, model: Traits) -> str:
    options = [f"tensor_parallel_size: {layout.stage}"]
    if layout.data > 1:
        options.append("enable_attention_dp: true")
    if layout.pipeline > 1:
        options.append(f"pipeline_parallel_size: {layout.pipeline}")
    if layout.dcp > 1:
        options.append(f"context_parallel_size: {layout.dcp}")
    if model.routed:
        options.append(f"moe_expert_parallel_size: {layout.expert}")
        options.append(f"moe_tensor_parallel_size: {layout.stage // layout.expert}")
    if layout.expert_slots:
        options.append(f"num_slots: {layout.expert_slots}")
    return ", ".join(options)
