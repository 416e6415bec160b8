"""How fast Streams is beside what one would otherwise use, and what that costs: `python -m benchmarks --help`."""
