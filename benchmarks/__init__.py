"""Side-by-side measurements on synthetic archives: ``python -m benchmarks``."""
