"""Benchmarks: `python -m benchmarks NAME` prints one measurement, beside its peers in the same run."""
