"""Where formulas are continued, so that any finite coordinates have a finite energy."""

X_FAR = 1000.0
"""Coordinates beyond it are replaced by ``sign(x) X_FAR (1 + log(|x| / X_FAR))``: C1, rising."""

CORE = 0.01
"""Below ``CORE * sigma`` the energy of a pair goes on linearly in r^2: C1."""
