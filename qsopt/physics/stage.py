"""What every operator and message of a pipeline stage needs to know."""

from qsopt import xp
from qsopt.arrays import Scalar, Softness
from qsopt.physics import collectives, prompt_attention
from qsopt.physics.load import Load
from qsopt.record import Record
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.hardware import Accelerator
from qsopt.spec.model import Model


class Stage(Record):
    """What every operator of a stage needs to know."""

    model: Model
    accelerator: Accelerator
    load: Load
    deployment: Deployment
    efficiency: Efficiency
    world: Counterfactual
    softness: Softness

    @property
    def message(self) -> Scalar:
        """Activations of the whole microbatch, X = T h a [byte]."""
        return self.load.tokens * self.model.hidden * self.model.precision.activation_bytes

    def group(self, size: Scalar) -> collectives.Group:
        """`size` ranks on this cluster."""
        ranks = collectives.group(size, self.accelerator.scale_up_devices, self.softness)
        return collectives.on_links(ranks, self.accelerator, self.efficiency.shared_links)


def turns(stage: Stage) -> Scalar:
    """1 where two microbatches take turns to compute and to communicate."""
    return xp.maximum(several_data(stage), stage.deployment.dispatched)


def several_data(stage: Stage) -> Scalar:
    """1 with attention data parallelism, 0 without."""
    return xp.clip(stage.deployment.data - 1.0, 0.0, 1.0)


def reader_of(stage: Stage) -> prompt_attention.Reader:
    """What attention of prompts needs to know of a stage that reads them."""
    assert stage.load.chunk is not None
    return prompt_attention.Reader(
        stage.model,
        stage.accelerator,
        stage.load.chunk,
        stage.load.encoder_context,
        stage.deployment,
        stage.efficiency,
        stage.softness,
    )
