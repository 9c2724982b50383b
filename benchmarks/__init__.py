"""Benchmarks: each measure is taken in turns with what it is compared with, and every run is counted after it.

``python -m benchmarks`` takes all of them; docs/performance.md says what each one does.
"""
