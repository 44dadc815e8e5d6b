"""Student's t: its distribution function and quantile, differentiable, and a positive quantity whose log follows it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.scipy.special import betainc
from jax.scipy.stats import t as student
from jaxtyping import Array, Float, Int, PRNGKeyArray

from qsopt.arrays import Scalar, scalar


@jax.custom_jvp
def cdf(x: Scalar, dof: Scalar) -> Scalar:
    """P(T <= x) by the incomplete beta function; its derivative is the density, and that in `dof` is not taken."""
    tail = 0.5 * betainc(0.5 * dof, jnp.full_like(dof, 0.5), dof / (dof + x**2))
    return jnp.where(x < 0, tail, 1.0 - tail)


@cdf.defjvp
def _cdf_jvp(primals: tuple[Scalar, Scalar], tangents: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
    x, dof = primals
    return cdf(x, dof), student.pdf(x, dof) * tangents[0]


def quantile(probability: Scalar, dof: Scalar) -> Scalar:
    """The x with P(T <= x) = probability, by Newton on the log odds in asinh x, where they are almost a line."""
    odds = jnp.log(probability) - jnp.log1p(-probability)
    tolerance = 16 * float(jnp.finfo(odds.dtype).eps)
    newton = optx.Newton(rtol=tolerance, atol=tolerance)
    guess = jnp.arcsinh(0.6 * odds)
    args = (odds, jax.lax.stop_gradient(dof))
    return jnp.sinh(optx.root_find(_odds_error, newton, guess, args, max_steps=64, throw=False).value)


def _odds_error(u: Scalar, args: tuple[Scalar, Scalar]) -> Scalar:
    odds, dof = args
    x = jnp.sinh(u)
    return jnp.log(cdf(x, dof)) - jnp.log(cdf(-x, dof)) - odds


class QDistribution(eqx.Module):
    """Predictive distribution of q: (log q - log_mean) / log_scale follows Student's t."""

    log_mean: Scalar = eqx.field(converter=scalar)
    """Median of log q."""
    log_scale: Scalar = eqx.field(converter=scalar)
    dof: Scalar = eqx.field(converter=scalar)
    """Degrees of freedom: one less than the matches it rests on."""
    status: Int[Array, ""] = eqx.field(default_factory=lambda: jnp.int32(0))
    """The law's `Status` for this architecture: the distribution knows nothing of physical bounds."""

    @property
    def median(self) -> Scalar:
        """The q that is as likely too large as too small."""
        return jnp.exp(self.log_mean)

    def quantile(self, probability: Scalar | float) -> Scalar:
        """The q below which it lies with a probability."""
        return jnp.exp(self.log_mean + self.log_scale * quantile(jnp.asarray(probability, float), self.dof))

    def interval(self, level: Scalar | float) -> tuple[Scalar, Scalar]:
        """The central interval that holds q with probability `level`."""
        return self.quantile(0.5 * (1.0 - level)), self.quantile(0.5 * (1.0 + level))

    def probability_below(self, threshold: Scalar | float) -> Scalar:
        """P(q <= threshold); with threshold 1/s, the probability that the dense match is smaller than the MoE."""
        return cdf((jnp.log(threshold) - self.log_mean) / self.log_scale, self.dof)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, " n"]:
        """`n` draws of q."""
        return jnp.exp(self.log_mean + self.log_scale * jax.random.t(key, self.dof, (n,)))
