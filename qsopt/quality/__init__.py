"""Quality laws: which dense model matches an MoE in quality, and how sure that is."""

from qsopt.quality.abnar import Abnar
from qsopt.quality.architecture import MoeArchitecture, stack
from qsopt.quality.blend import COMBINED, Blend, blend
from qsopt.quality.calibration import Calibrated, calibrate, predict
from qsopt.quality.chinchilla import BESIROGLU, HOFFMANN, HOFFMANN_TEX, Chinchilla
from qsopt.quality.clark import CLARK, Clark
from qsopt.quality.constant import Constant
from qsopt.quality.empirical import Empirical, empirical
from qsopt.quality.fit_range import FitRange
from qsopt.quality.geometric import Geometric
from qsopt.quality.krajewski import Krajewski
from qsopt.quality.ludziejewski import Ludziejewski
from qsopt.quality.match import Bound, Contract, Evidence, Match
from qsopt.quality.matches import CONTROLLED, FITTED, MATCHES
from qsopt.quality.power import Power, power
from qsopt.quality.quality_law import DenseMatch, QualityLaw, Status
from qsopt.quality.registry import BAND, law, laws
from qsopt.quality.student import QDistribution
from qsopt.quality.tian import Tian, compute_optimal_q
from qsopt.quality.validation import LooRow, chosen_inside, leave_one_out
from qsopt.quality.zhao import Zhao

__all__ = [
    "BAND",
    "BESIROGLU",
    "CLARK",
    "COMBINED",
    "CONTROLLED",
    "FITTED",
    "HOFFMANN",
    "HOFFMANN_TEX",
    "MATCHES",
    "Abnar",
    "Blend",
    "Bound",
    "Calibrated",
    "Chinchilla",
    "Clark",
    "Constant",
    "Contract",
    "DenseMatch",
    "Empirical",
    "Evidence",
    "FitRange",
    "Geometric",
    "Krajewski",
    "LooRow",
    "Ludziejewski",
    "Match",
    "MoeArchitecture",
    "Power",
    "QDistribution",
    "QualityLaw",
    "Status",
    "Tian",
    "Zhao",
    "blend",
    "calibrate",
    "chosen_inside",
    "compute_optimal_q",
    "empirical",
    "law",
    "laws",
    "leave_one_out",
    "power",
    "predict",
    "stack",
]
