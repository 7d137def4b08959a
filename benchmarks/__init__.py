"""Measurements of the product, each one command: `python -m benchmarks.engine`. Ratios count, taken within one run."""
