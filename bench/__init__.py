"""Benchmarks: ratios and percentiles, printed; never part of the tests."""
