"""Benchmarks: each measure runs in turns with its baseline, and each run's work is counted after it.

``python -m benchmarks`` takes all of them; docs/performance.md says what each one does.
"""
