"""Inputs of the pair potentials' tests, and what errors are measured against."""

import numpy as np
from bgfast_kernels.pair import CORE, POTENTIALS, cluster
from bgfast_kernels.pair.potential import derivatives


def configurations(n, dtype, p, n_particles):
    """Typical rows, and among them overlaps down to coincidence and far coordinates."""
    x = cluster(np.random.default_rng(0), n, np.float64, n_particles, p.n_dim, p.sigma)
    if n > 5:
        x[3] *= 2000.0
        x[4, -p.n_dim :] = x[4, : p.n_dim] + 1e-3  # within the core
        x[5, -p.n_dim :] = x[5, : p.n_dim]
    return x.astype(dtype)


def magnitudes(x, v, p):
    """Return what the energy, gradient and Hessian product of each row would be without signs.

    Near its minimum an energy is a small difference of large terms, and so is its gradient:
    rounding is relative to the terms.
    """
    x = x.astype(np.float64)
    r = np.where(abs(x) > 1e3, np.sign(x) * 1e3 * (1 + np.log(np.maximum(abs(x), 1e3) / 1e3)), x)
    r, v = (a.reshape(len(x), -1, p.n_dim) for a in (r, v.astype(np.float64)))
    d = np.linalg.norm(r[:, :, None] - r[:, None], axis=-1)
    w = np.linalg.norm(v[:, :, None] - v[:, None], axis=-1)
    t = p.sigma**2 / np.maximum(d**2, (CORE * p.sigma) ** 2)
    t[:, np.arange(d.shape[1]), np.arange(d.shape[1])] = 0.0
    of = derivatives(POTENTIALS[p.potential])
    value, slope, curvature = (
        sum(abs(c) * t**n for n, c in terms) for terms in (of.value, of.slope, of.curvature)
    )
    slope, curvature = (
        2 * abs(p.eps * of.slope_factor) / p.sigma**2 * a for a in (slope, curvature)
    )
    off, v_off = (np.linalg.norm(a - a.mean(1, keepdims=True), axis=-1) for a in (r, v))
    return (
        abs(p.eps * of.value_factor) * value.sum((1, 2)) / 2 + 0.5 * p.trap * (off**2).sum(1),
        ((slope * d).sum(2) + p.trap * off).max(1),
        (((slope + 2 / p.sigma**2 * curvature * d**2) * w).sum(2) + p.trap * v_off).max(1),
    )


def assert_close(found, expected, sizes):
    """Compare an energy, and what follows it of a gradient and a Hessian product, row by row.

    A power t^7 of a rounded t is good to a dozen units in the last place.
    """
    for f, e, size, tolerance in zip(found, expected, sizes, (1, 2, 2), strict=False):
        tolerance *= {"float32": 1.5e-6, "float64": 5e-14}[str(np.asarray(f).dtype)]
        e = np.asarray(e).reshape(len(f), -1)
        error = abs(np.asarray(f, np.float64).reshape(e.shape) - e).max(1)
        assert (error <= tolerance * np.maximum(size, abs(e).max(1))).all()
