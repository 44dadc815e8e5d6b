"""What real kernels and links reach of the datasheet. `ideal` is the bound, `fitted` comes from
measurements.

Peaks stand in `hardware`; here are the achieved fractions, launch times and link latencies, each a
parameter that a fit may move. A set says what it leaves out by a number: no straggler, even
popularity, no workspace, perfect overlap.
"""

from dataclasses import fields

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar, Table, entry, number, numbers, scalar
from qsopt.record import Record
from qsopt.spec.formats import FORMATS, Format
from qsopt.spec.server_memory import ServerMemory


class OperatorEfficiency(Record):
    """Efficiency of one kind of operator; every field holds one value for each format in `FORMATS`,
    or one for all.
    """

    launch: Table = numbers()
    """Fixed time of one launch [s]."""
    bandwidth: Table = numbers()
    """Share of the memory bandwidth reached."""
    compute: Table = numbers()
    """Share of the peak FLOP/s reached by large products."""
    softness: Table = numbers()
    """1/p of the norm that joins compute and memory time: 0 overlaps perfectly, 1 adds them."""
    half_tokens: Table = numbers()
    """Tokens at which a product's compute efficiency is half (tile quantisation); 0 if it does not
    fall.
    """
    half_width: Table = numbers()
    """Columns of a product on one device at which bandwidth efficiency is half; 0 if it does not
    fall.
    """
    half_batch: Table = numbers()
    """Tokens that attend at once at which a kernel leaves half of the device idle; 0 if none does.
    """
    half_columns: Table = numbers()
    """Columns of a product on one device, for attention the head size, at which compute efficiency
    is half: narrow products fill fewer tiles, and an exponential takes as long for a small head as
    for a large one. 0 if it does not fall.
    """
    half_rows: Table = numbers()
    """Rows of attention (tokens times heads on one device) at which compute efficiency is half,
    as they leave half of the device idle; 0 if it does not fall.
    """
    elsewhere: Table = numbers()
    """Activations that kernels of experts move of a gathered token row whose expert is on another
    rank, over those of a row that they compute; 0 if they skip it.
    """

    def of(self, form: Format) -> "OperatorEfficiency":
        """The values for one format."""
        return jax.tree.map(lambda values: entry(values, form.index), self)


class LinkEfficiency(Record):
    """Efficiency of one tier of links."""

    bandwidth: Scalar = number(1.0)
    """Share of the link speed reached."""
    collective: Scalar = number(0.0)
    """Fixed time of one collective [s]."""
    step: Scalar = number(0.0)
    """Time of one step of a ring, or of one message [s]."""
    ramp: Scalar = number(0.0)
    """How slowly protocols for small messages give way to those for large ones: added in units of
    the geometric mean of latency and time on the link.
    """


class Server(Record):
    """What a server adds to the operators' times. The default adds nothing."""

    scale: Scalar = number(1.0)
    """Time of a step in service over that of its operators."""
    host: Scalar = number(0.0)
    """Scheduling, sampling and launches of a step, whatever the model [s]."""
    prefill_scale: Scalar = number(1.0)
    """Time of a forward that only reads prompts over that of its operators."""
    prefill_host: Scalar = number(0.0)
    """Scheduling and launches of such a forward [s]."""
    interference: Scalar = number(1.0)
    """Share of the time that reads prompts for which decoding waits, where the two alternate."""
    transfer_overlap: Scalar = number(0.0)
    """Share of a cache's way between pools that is hidden behind the prompt's reading."""
    host_layer: Scalar = number(0.0)
    """For each layer of a step: norms, rotary embeddings and other small kernels, and gaps between
    kernels [s].
    """
    first_layer: Scalar = number(0.0)
    """For each layer, what a first token takes beyond the reading of its prompt, while other
    requests go on [s].
    """
    by_format: Table = eqx.field(converter=scalar, default_factory=lambda: np.ones(len(FORMATS)))
    """`scale` where a model's weights have each format of `FORMATS`, in units of `scale`."""


class Efficiency(Record):
    """A whole set."""

    gemm: OperatorEfficiency
    """Projections, dense feed-forward layers, router and head."""
    experts: OperatorEfficiency
    """The routed experts of one layer as one grouped product."""
    attention: OperatorEfficiency
    """Decode attention over grouped KV heads."""
    mla: OperatorEfficiency
    """Decode attention over latents."""
    linear: OperatorEfficiency
    """Update of a linear-attention state."""
    prefill_attention: OperatorEfficiency
    """Causal attention of prompts over grouped KV heads."""
    prefill_mla: OperatorEfficiency
    """Causal attention of prompts over latents expanded to keys and values."""
    scale_up: LinkEfficiency
    """Collectives over the links inside a domain."""
    scale_out: LinkEfficiency
    """Collectives and messages between domains."""
    dispatch_up: LinkEfficiency
    """Tokens on their way to experts and back, inside a domain."""
    dispatch_out: LinkEfficiency
    """The same between domains."""
    straggler: Scalar = number(0.0)
    """1 if a routed layer waits for its most loaded rank, 0 if loads are taken as equal."""
    popularity_cv2: Scalar = number(0.0)
    """Squared coefficient of variation of the experts' popularity, for the experts hit."""
    imbalance_cv2: Scalar = number(0.0)
    """What is left of it between ranks after balancing, for the straggler."""
    attention_overlap: Scalar = number(0.0)
    """Share of attention's communication hidden behind compute."""
    ffn_overlap: Scalar = number(0.0)
    """Share of the feed-forward layers' communication hidden behind compute where two microbatches
    take turns: with attention data parallelism, or where tokens are dispatched. Alike for dense
    layers and experts.
    """
    merged_dispatch: Scalar = number(1.0)
    """1 if copies of a token for experts of one rank travel as one, 0 if each travels."""
    dispatch_bytes: Scalar = number(0.0)
    """Bytes of an element on its way to the experts; 0 for those of an activation [byte]. Results
    come back as activations.
    """
    shared_links: Scalar = number(1.0)
    """1 if a small group in a mesh or torus has only the links between its own ranks, 0 if it has
    all of a device's.
    """
    prefill_overlap: Scalar = number(0.0)
    """Share of the smaller of communication and compute that is hidden where prompts are read, by
    two halves of a batch that take turns.
    """
    sequence_correlation: Scalar = number(0.0)
    """How alike tokens that one sequence contributes to a step pick their experts: n of them hit as
    many as n^(1 - correlation) tokens that pick by themselves.
    """
    server: Server = Server()
    """Between kernels and a server."""
    workspace: Scalar = number(0.0)
    """Largest activation buffers held at once, in units of the largest activation."""
    reserve_bytes: Scalar = number(0.0)
    """Context and runtime on each device [byte]."""
    memory: ServerMemory = ServerMemory()
    """What a server's memory holds beside that."""


OPERATOR_KINDS = ("gemm", "experts", "attention", "mla", "linear")
"""Fields of an `Efficiency` that are kinds of operators of a decode step."""

PREFILL_KINDS = {"prefill_attention": "attention", "prefill_mla": "mla"}
"""Fields that are kinds of operators of prompts alone, each with the kind of a decode step that
stands in for it where a set does not have it.
"""

LINK_TIERS = ("scale_up", "scale_out", "dispatch_up", "dispatch_out")
"""Fields that are tiers of links."""


def ideal() -> Efficiency:
    """The bound that the qs inequality argues with: full peaks, perfect overlap, no latency,
    balanced uniform routing.
    """
    one, none = np.ones(len(FORMATS)), np.zeros(len(FORMATS))
    halves = {item.name: none for item in fields(OperatorEfficiency)}
    operator, link = (
        OperatorEfficiency(**{**halves, "bandwidth": one, "compute": one}),
        LinkEfficiency(),
    )
    operators = dict.fromkeys((*OPERATOR_KINDS, *PREFILL_KINDS), operator)
    return Efficiency(**operators, **dict.fromkeys(LINK_TIERS, link))  # pyright: ignore[reportArgumentType]
