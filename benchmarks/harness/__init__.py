"""What the benchmarks share: options, timing, environment, report, data sets, methods to compare with."""
