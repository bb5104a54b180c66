"""Fits the two kinds of calibration curves: isotonic, and temperature with a shift. Pure; numpy only."""

from __future__ import annotations

import numpy as np

from ocrsmith.engines.confidence import Curve, Isotonic, Temperature, logit, sigmoid
from ocrsmith.evaluation.confidence.observations import Floats, Observations

METHODS = ("isotonic", "temperature")
MAX_STEPS = 100
MAX_HALVINGS = 40


def fit_curve(method: str, data: Observations) -> Curve:
    """A curve of one of `METHODS`; `data`: at least one observation."""
    return fit_isotonic(data) if method == "isotonic" else fit_temperature(data)


def fit_isotonic(data: Observations) -> Isotonic:
    """The rising step function with the least weighted squared error, as a curve.

    Between two steps the curve is straight. It stays 1/(n + 2) away from 0 and 1: n observations, however good,
    do not show certainty (Laplace's rule of succession).
    """
    x, inverse = np.unique(data.confidence, return_inverse=True)
    weight: Floats = np.bincount(inverse, data.weight).astype(np.float64)
    y = np.bincount(inverse, data.weight * data.truth) / weight
    margin = 1.0 / (weight.sum() + 2.0)
    fitted = np.clip(pool(y, weight), margin, 1.0 - margin)
    # A knot at both ends of each step is enough.
    edge = np.ones(len(x), dtype=bool)
    edge[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return Isotonic(tuple(zip(x[edge].tolist(), fitted[edge].tolist(), strict=True)))


def pool(values: Floats, weights: Floats) -> Floats:
    """Isotonic regression by pooling adjacent violators: the rising sequence nearest to `values`.

    Args:
        values: (n,)
        weights: (n,) above 0.

    Returns:
        (n,) that never falls and has the least weighted sum of squared differences. Time n.
    """
    means: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, count = value, weight, 1
        while means and means[-1] >= mean:
            before = masses.pop()
            mean = (means.pop() * before + mean * mass) / (before + mass)
            mass += before
            count += counts.pop()
        means.append(mean)
        masses.append(mass)
        counts.append(count)
    return np.repeat(np.array(means, dtype=np.float64), counts)


def fit_temperature(data: Observations) -> Temperature:
    """Slope and shift of the log-odds with the highest likelihood, by Newton's method.

    A pull of one observation's strength towards slope 1 and shift 0 keeps both finite where all is right. A
    falling curve (confidence that misleads) becomes level.
    """
    inputs = np.column_stack((logit(data.confidence), np.ones(len(data))))
    start = np.array([1.0, 0.0])
    theta = _newton(inputs, data.truth, data.weight, start)
    if theta[0] < 0:
        level = _newton(inputs[:, 1:], data.truth, data.weight, start[1:])
        theta = np.array([0.0, level[0]])
    return Temperature(float(theta[0]), float(theta[1]))


def _newton(inputs: Floats, truth: Floats, weight: Floats, prior: Floats) -> Floats:
    """Minimum of the weighted log loss plus half the squared distance to `prior`: convex, so there is one."""

    def loss(theta: Floats) -> float:
        z = inputs @ theta
        return float(weight @ (np.logaddexp(0.0, z) - truth * z) + 0.5 * np.sum((theta - prior) ** 2))

    theta, value = prior, loss(prior)
    for _ in range(MAX_STEPS):
        p = sigmoid(inputs @ theta)
        gradient = inputs.T @ (weight * (p - truth)) + (theta - prior)
        curvature = (inputs * (weight * p * (1.0 - p))[:, None]).T @ inputs + np.eye(len(theta))
        step = np.linalg.solve(curvature, gradient)
        for _ in range(MAX_HALVINGS):
            if loss(theta - step) <= value:
                break
            step = step / 2
        theta = theta - step
        value = loss(theta)
        if np.abs(step).max() < 1e-10:
            break
    return theta


def log_loss(predicted: Floats, data: Observations) -> float:
    """Mean negative log-likelihood of `data.truth` in nats; a truth between 0 and 1 counts for both sides."""
    p = np.clip(predicted, 1e-7, 1.0 - 1e-7)
    losses = -(data.truth * np.log(p) + (1.0 - data.truth) * np.log1p(-p))
    return float(data.weight @ losses / data.weight.sum())
