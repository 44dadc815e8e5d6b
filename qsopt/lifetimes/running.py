"""What serving a model costs for each output token, in its best deployment or way of serving."""

from typing import NamedTuple

import numpy as np

from qsopt.arrays import Scalar
from qsopt.comparison.contenders import Contender, RequestDuel, request_duel, rival
from qsopt.comparison.dense import MatchKind
from qsopt.comparison.duel import best_of
from qsopt.comparison.twin import aligned
from qsopt.fitted.power import PACE, STEP, shipped_power
from qsopt.physics.energy import PowerLaw, busy_shares, energy
from qsopt.physics.evaluate import compiled_metrics
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.units import SECONDS_PER_HOUR


class Running(NamedTuple):
    """Serving one model."""

    throughput: float
    """Output tokens of the cluster, 0 where nothing keeps the limits [tokens/s]."""
    joules: float
    """Energy of an output token; NaN where the power limit is not known [J]."""
    hourly: float
    """Rental of the cluster [US dollar/hour]."""
    deployment: Deployment | None = None
    """That writes; None where nothing keeps the limits."""
    replicas: float = 0.0
    """Of it in the cluster."""

    @property
    def dollars(self) -> float:
        """Rental for an output token, infinite where none is served [US dollar]."""
        if not self.throughput:
            return float("inf")
        return self.hourly / SECONDS_PER_HOUR / self.throughput


class Setting(NamedTuple):
    """Where an MoE and its dense matches are served."""

    model: Model
    """The MoE."""
    service: Service
    kind: MatchKind
    """Of the matches."""
    power: PowerLaw
    """Of devices."""
    duel: RequestDuel | None
    """Of the MoE and the first match, on requests; None for decode alone."""

    def moe(self) -> Running:
        """The MoE."""
        return self._decoding(self.model) if self.duel is None else self._requests(self.duel.moe)

    def match(self, match: Model) -> Running:
        """A dense match."""
        if self.duel is None:
            return self._decoding(match)
        return self._requests(rival(self.duel, match, self.service, self.kind).dense)

    def _requests(self, contender: Contender) -> Running:
        best = contender.side(self.service).best
        if best is None or not bool(best.reached.feasible):
            return self._nothing()
        reached = best.reached
        shares = reached.compute_share, reached.memory_share
        running = self._running(reached.throughput, reached.used_devices, shares)
        return running._replace(
            deployment=best.plan.decode, replicas=float(reached.decode_replicas)
        )

    def _decoding(self, model: Model) -> Running:
        side, best = aligned(model, self.model), best_of(model, self.model, self.service)
        if not bool(best.feasible):
            return self._nothing()
        layout = best.deployment
        reached = compiled_metrics(side, self.service, layout)
        used = reached.replicas * layout.replica_devices
        running = self._running(reached.throughput, used, busy_shares(reached.breakdown))
        return running._replace(deployment=layout, replicas=float(reached.replicas))

    def _running(self, throughput: Scalar, used: Scalar, shares: tuple[Scalar, Scalar]) -> Running:
        drawn = energy(self.service.cluster, self.power, *shares, used, throughput)
        return Running(float(throughput), float(drawn.joules_per_token), self._hourly)

    def _nothing(self) -> Running:
        return Running(0.0, np.inf, self._hourly)

    @property
    def _hourly(self) -> float:
        cluster = self.service.cluster
        return float(cluster.devices * cluster.accelerator.price_per_hour)


def setting(
    model: Model, match: Model, service: Service, kind: MatchKind, of_server: bool
) -> Setting:
    """Where an MoE and its matches are served.

    Args:
        model: the MoE.
        match: one of its dense matches.
        service: with a workload of requests, or of decode alone.
        kind: of the matches.
        of_server: whether times are those of a server, which decides on the law of power.
    """
    asked = service.workload.prompt is not None
    duel = request_duel(model, match, service, kind) if asked else None
    return Setting(model, service, kind, shipped_power(PACE if of_server else STEP).law, duel)
