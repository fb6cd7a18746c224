"""What a pair potential is, and its derivatives as straight-line code for any language.

A potential is stated once, as a Python function ``u(s)`` of ``s = r^2``, lengths in units of sigma
and energies in units of eps. SymPy derives ``u'`` and ``u''``; the kernels get them as polynomials
in ``t = 1/s``, with common factors taken out, which are applied once per particle and not per pair.
The torch reference differentiates the function itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Potential:
    """A pair potential.

    Parameters
    ----------
    name
        Its name; the op is called ``pair_<name>``.
    summary
        A few words for tables.
    u
        ``u(s)``, a polynomial in 1/s without constant term, so that it vanishes at large
        distances. It is called with SymPy symbols, torch tensors and numbers.
    """

    name: str
    summary: str
    u: Callable[[Any], Any]


@dataclass(frozen=True)
class Derivatives:
    """``u``, ``u'`` and ``u''`` over ``t = 1/s``, each a sum of ``coefficient * t**exponent``.

    Parameters
    ----------
    value, slope, curvature
        Pairs of an exponent and a coefficient, exponents rising: ``u = value_factor * value``,
        ``u' = slope_factor * slope`` and ``u'' = slope_factor * curvature``.
    value_factor, slope_factor
        What is the same for all pairs.
    """

    value: tuple[tuple[int, float], ...]
    slope: tuple[tuple[int, float], ...]
    curvature: tuple[tuple[int, float], ...]
    value_factor: float
    slope_factor: float

    def at(self, s: float) -> tuple[float, float]:
        """Return ``u(s)`` and ``u'(s)``."""
        t = 1.0 / s
        value, slope = (sum(c * t**n for n, c in p) for p in (self.value, self.slope))
        return self.value_factor * value, self.slope_factor * slope


@functools.cache
def derivatives(potential: Potential) -> Derivatives:
    """Derive ``u'`` and ``u''``.

    Raises
    ------
    ValueError
        If ``u`` is not a polynomial in 1/s without constant term.
    """
    import sympy  # takes a third of a second, and no other op needs it

    s, t = sympy.Symbol("s", positive=True), sympy.Symbol("t", positive=True)
    u = potential.u(s)
    orders = [sympy.expand(sympy.diff(u, s, k).subs(s, 1 / t)) for k in range(3)]
    if not orders[0].is_polynomial(t) or orders[0].subs(t, 0) != 0:
        raise ValueError(
            f"u(s) of {potential.name!r} must be a polynomial in 1/s without constant term, got {u}"
        )
    value_factor = _common(sympy.Poly(orders[0], t))
    slope_factor = _common(sympy.Poly(orders[1], t))

    def over(order: Any, factor: Any) -> tuple[tuple[int, float], ...]:
        terms = sympy.Poly(order, t).terms()
        return tuple(sorted((n, float(c / factor)) for (n,), c in terms))

    return Derivatives(
        over(orders[0], value_factor),
        over(orders[1], slope_factor),
        over(orders[2], slope_factor),
        float(value_factor),
        float(slope_factor),
    )


def _common(polynomial: Any) -> Any:
    """Return the common factor of the coefficients, with the sign of the highest power's."""
    factor = polynomial.primitive()[0]
    return factor if polynomial.LC() > 0 else -factor


def straight_line(
    polynomials: dict[str, tuple[tuple[int, float], ...]], number: str
) -> list[tuple[str, str]]:
    """Return assignments, pairs of a name and an expression, that end with the polynomials.

    Parameters
    ----------
    polynomials
        Name -> polynomial in ``t``. A power of t that several need is computed once.
    number
        How the language writes a number, such as ``"real({})"``.
    """
    lines: list[tuple[str, str]] = []
    powers = {1: "t"}

    def power(n: int) -> str:
        if n not in powers:
            a = next((a for a in sorted(powers, reverse=True) if n - a in powers), n - n // 2)
            lines.append((f"t{n}", f"{power(a)} * {power(n - a)}"))
            powers[n] = f"t{n}"
        return powers[n]

    def horner(terms: tuple[tuple[int, float], ...], below: int) -> str:
        (n, coefficient), rest = terms[0], terms[1:]
        inner = number.format(coefficient)
        if rest:
            inner = f"({inner} + {horner(rest, n)})"
        if n == below:
            return inner
        return power(n - below) if inner == number.format(1.0) else f"{power(n - below)} * {inner}"

    for name, terms in polynomials.items():
        result = horner(terms, 0)
        lines.append((name, result))
    return lines
