"""The matrix unit in software: kernels for it run, slowly, on processors that have none.

``python -m pytest -p tests.matrix_unit.plugin`` runs tests that way. The plugin needs the compiled
``unit.c`` (``LIBRARY`` names it) and its own ``NUMBA_CACHE_DIR``: what numba compiles like this
serves nothing else.
"""

import os
import subprocess
from pathlib import Path

LIBRARY = "BGFAST_MATRIX_UNIT"


def environment(folder):
    """Compile the unit in a folder, and return the environment that the plugin needs."""
    library = folder / "unit.so"
    source = Path(__file__).with_name("unit.c")
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(source)], check=True)
    own = {LIBRARY: str(library), "NUMBA_CACHE_DIR": str(folder / "cache")}
    return {**os.environ, **own}
