"""How fast, next to what people do today; `python -m benchmarks` runs everything and writes docs/benchmarks.md."""
