"""The student: a small network distilled from the teacher.

The teacher labels prompts that never were: mixtures of two prompts (as in "mixup", Zhang et al.
2018, here only to ask a teacher between its training points), and prompts with some features of
another. That makes far more labels than there are prompts, and smooth ones, so that a network of
a hundred units keeps nearly all that a forest of sixty trees knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array
from zerorouter.fitting.teacher import Teacher

QUESTIONS = 24_000  # to the teacher at least,
LEAST_QUESTIONS, MOST_QUESTIONS = 4, 8  # of either kind per prompt
MIXING = 0.4  # parameter of the Beta distribution of the mixing weight
SWAPPED = 0.15  # share of features taken from another prompt
MOST_STEPS = 900  # more fit the teacher's noise, fewer miss what it knows
EPOCHS = 10  # at most
BATCH = 256
STEP = 2e-3
DROPOUT = 0.05
DECAY = 0.02
LINEAR_DECAY = 0.2  # what is linear is better read by the ridge regression behind
MOMENTUM, SQUARES = 0.9, 0.999  # Adam's (Kingma & Ba 2015)


@dataclass(frozen=True, kw_only=True, eq=False)
class Student:
    """A network with a linear part: D features, H units, J outputs.

    Attributes:
        hidden: (D, H)
        hidden_bias: (H,)
        readout: (H, J)
        linear: (D, J)
        bias: (J,)
    """

    hidden: Float32Array
    hidden_bias: Float32Array
    readout: Float32Array
    linear: Float32Array
    bias: Float32Array

    @classmethod
    def without_units(cls, n_features: int) -> Student:
        """A network that says nothing: no units, no outputs."""
        return cls(
            hidden=np.zeros((n_features, 0), np.float32),
            hidden_bias=np.zeros(0, np.float32),
            readout=np.zeros((0, 0), np.float32),
            linear=np.zeros((n_features, 0), np.float32),
            bias=np.zeros(0, np.float32),
        )

    def __call__(self, x: Float32Array) -> Float32Array:
        """(N, J) outputs for features (N, D)."""
        units = np.maximum(x @ self.hidden + self.hidden_bias, 0)
        return np.asarray(units @ self.readout + x @ self.linear + self.bias)


def distil(teacher: Teacher, x: Float32Array, n_units: int, seed: int) -> Student:
    """Train a student of ``n_units`` on prompts made from ``x`` (N, D), labelled by the teacher."""
    rng = np.random.default_rng([seed, 31])
    rounds = int(np.clip(QUESTIONS / (2 * len(x)), LEAST_QUESTIONS, MOST_QUESTIONS))
    asked = np.vstack([make(x, rng) for _ in range(rounds) for make in (_mixed, _swapped)])
    target = teacher.logits(asked)
    centre, scale = target.mean(axis=0), float(target.std()) or 1.0
    student = _train(asked, (target - centre) / np.float32(scale), n_units, rng)
    return Student(
        hidden=student.hidden,
        hidden_bias=student.hidden_bias,
        readout=student.readout * np.float32(scale),
        linear=student.linear * np.float32(scale),
        bias=student.bias * np.float32(scale) + centre,
    )


def _mixed(x: Float32Array, rng: np.random.Generator) -> Float32Array:
    partner = rng.integers(0, len(x), len(x))
    share = rng.beta(MIXING, MIXING, len(x))[:, None].astype(np.float32)
    return np.asarray(share * x + (1 - share) * x[partner])


def _swapped(x: Float32Array, rng: np.random.Generator) -> Float32Array:
    partner = rng.integers(0, len(x), len(x))
    return np.where(rng.random(x.shape, dtype=np.float32) < SWAPPED, x[partner], x)


def _train(
    x: Float32Array, target: Float32Array, n_units: int, rng: np.random.Generator
) -> Student:
    """Least squares by Adam with decoupled decay, dropout and a cosine step size."""
    n, d = x.shape
    j = target.shape[1]

    def normal(*shape: int, sd: float) -> Float32Array:
        return (sd * rng.standard_normal(shape)).astype(np.float32)

    hidden = normal(d, n_units, sd=1 / math.sqrt(d))
    readout = normal(n_units, j, sd=0.3 / math.sqrt(n_units))
    bias, hidden_bias = np.zeros(j, np.float32), np.zeros(n_units, np.float32)
    linear = np.zeros((d, j), np.float32)
    parts = (hidden, hidden_bias, readout, linear, bias)
    decays = (DECAY, 0.0, DECAY, LINEAR_DECAY, 0.0)
    mean = [np.zeros_like(part) for part in parts]
    square = [np.zeros_like(part) for part in parts]
    n_steps = min(MOST_STEPS, EPOCHS * math.ceil(n / BATCH))
    for step in range(1, n_steps + 1):
        rows = rng.integers(0, n, BATCH)
        seen = x[rows]
        before = seen @ hidden + hidden_bias
        mask = _kept(rng, before.shape)
        units = np.maximum(before, 0) * mask
        error = (units @ readout + seen @ linear + bias - target[rows]) / np.float32(BATCH)
        back = (error @ readout.T) * mask * (before > 0)
        gradients = (
            seen.T @ back,
            back.sum(axis=0),
            units.T @ error,
            seen.T @ error,
            error.sum(axis=0),
        )
        rate = STEP * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        unbias, unsquare = 1 - MOMENTUM**step, 1 - SQUARES**step
        for part, gradient, m, s, decay in zip(parts, gradients, mean, square, decays, strict=True):
            m += (1 - MOMENTUM) * (gradient - m)
            s += (1 - SQUARES) * (gradient**2 - s)
            part -= rate * (m / unbias / (np.sqrt(s / unsquare) + 1e-8) + decay * part)
    return Student(
        hidden=hidden, hidden_bias=hidden_bias, readout=readout, linear=linear, bias=bias
    )


def _kept(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    """A dropout mask, scaled to keep the mean."""
    kept = rng.random(shape, dtype=np.float32) >= DROPOUT
    return kept * np.float32(1 / (1 - DROPOUT))
