"""bgfast beside other codes, in one run: ``python -m benchmarks.peers [QUESTION ...]``.

A question is a file here; it poses cases, and contenders answer them. Every peer is optional. What
a contender returns is compared with a float64 reference before it is timed: one that disagrees is
listed with its error and without a time. Contenders take turns within each repetition; a table
holds the median over the repetitions and the quartiles: wall-clock time, or, on one thread, CPU
time of the process.
"""
