"""The prior of serving times: how far told speeds are off, and how requests scatter around them.

Fitted to two public tables of the catalog: a log of requests with their TTFT and TPOT by
endpoint, and the speeds that hosts tell for the same model. `predict.serving_times.PRIOR` holds
the result; ``scripts/evaluate_latency.py`` prints both side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.errors import CalibrationError, require_extra
from zerorouter.predict.serving_times import Spread

LEAST_HOSTS = 3
LEAST_REQUESTS = 10
MOST_DOF = 50.0


@dataclass(frozen=True, kw_only=True)
class NoisePrior:
    """Scaled inverse chi-squared prior of variances.

    Attributes:
        variance: Its scale.
        dof: Its degrees of freedom.
    """

    variance: float
    dof: float


def fit_noise(groups: Sequence[FloatArray]) -> NoisePrior:
    """The prior that the variances of several groups were drawn from.

    Moments of the log sample variances (Smyth 2004, limma): with d degrees of freedom in a group
    and ``dof`` in the prior, ``log s^2`` has mean ``log variance + psi(d/2) - log(d/2) -
    psi(dof/2) + log(dof/2)`` and variance ``psi'(d/2) + psi'(dof/2)``.

    Args:
        groups: Log times of the requests of each endpoint.

    Raises:
        CalibrationError: fewer than two groups with enough requests.
    """
    require_extra("scipy", "fit", "fitting serving times")
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    used = [np.asarray(g, dtype=np.float64) for g in groups if len(g) >= LEAST_REQUESTS]
    if len(used) < 2:
        raise CalibrationError(
            f"{len(used)} endpoints have {LEAST_REQUESTS} requests or more; at least 2 are wanted"
        )
    free = np.array([len(g) - 1 for g in used], dtype=np.float64)
    logs = np.log(np.array([max(float(np.var(g, ddof=1)), 1e-8) for g in used]))
    level = logs - digamma(free / 2) + np.log(free / 2)
    excess = float(np.var(level, ddof=1) - np.mean(polygamma(1, free / 2)))
    if excess <= float(polygamma(1, MOST_DOF / 2)):
        dof = MOST_DOF
    else:
        dof = 2 * float(brentq(lambda h: float(polygamma(1, h)) - excess, 1e-3, MOST_DOF / 2))
    mean = float(np.mean(level)) + float(digamma(dof / 2)) - float(np.log(dof / 2))
    return NoisePrior(variance=float(np.exp(mean)), dof=dof)


def level_variance(groups: Sequence[FloatArray]) -> float:
    """Pooled variance of log speeds within groups: hosts of one model, or models of one class.

    Raises:
        CalibrationError: no group has enough members.
    """
    used = [np.asarray(g, dtype=np.float64) for g in groups if len(g) >= LEAST_HOSTS]
    if not used:
        raise CalibrationError(f"no model has {LEAST_HOSTS} hosts that tell a speed")
    squares = sum(float(np.sum((g - g.mean()) ** 2)) for g in used)
    return squares / sum(len(g) - 1 for g in used)


def fit_spread(
    requests: Sequence[FloatArray], hosts: Sequence[FloatArray], classes: Sequence[FloatArray]
) -> Spread:
    """The spread of one of the two times.

    Args:
        requests: Log times of the requests of each endpoint.
        hosts: Log times that the hosts of each model tell.
        classes: Log times of the models of each class whose median stands in for a missing one.
    """
    noise, level = fit_noise(requests), level_variance(hosts)
    return Spread(
        level=level,
        pooled=level + level_variance(classes),
        noise=noise.variance,
        noise_dof=noise.dof,
    )


def as_logs(values: FloatArray) -> Float64Array:
    """Logs of the positive ones among times in seconds."""
    seconds = np.asarray(values, dtype=np.float64)
    return np.log(seconds[seconds > 0])
