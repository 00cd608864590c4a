"""Benchmarks: `make bench`. They print figures and ratios; they pass or fail nothing."""
