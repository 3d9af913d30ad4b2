"""The app of bench_throughput: one hourly job over many targets."""
