"""What a model is served on and for: a cluster, a workload, and what kernels and links reach. One
record, used everywhere.
"""

import equinox as eqx

from qsopt.record import Record
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.hardware import Cluster
from qsopt.spec.rules import EVERY, LayoutRules
from qsopt.spec.workload import Workload


class Service(Record):
    """The same for both sides of a comparison."""

    cluster: Cluster
    """Accelerators and their number."""
    workload: Workload
    """Context, and the limits that an answer must keep."""
    efficiency: Efficiency
    """What kernels and links reach of the datasheet."""
    rules: LayoutRules = eqx.field(static=True, default=EVERY)
    """Which layouts may be taken. No number depends on them, only what is searched."""

    @property
    def priced(self) -> "Service":
        """The same with what a deployment costs under alone: freedoms and software decide which
        layouts there are, and another of them compiles nothing anew.
        """
        rules = LayoutRules(whole_domains=self.rules.whole_domains)
        if rules == self.rules:
            return self
        return Service(self.cluster, self.workload, self.efficiency, rules)
