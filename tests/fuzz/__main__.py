"""Coverage-guided fuzzing of one decoder: python -m tests.fuzz TARGET [libFuzzer options]."""

from __future__ import annotations

import sys

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports():
    from .targets import TARGETS


def main() -> None:
    """Fuzz until a finding, Ctrl-C or the limit among the options."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [-max_total_time=SECONDS …]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


main()
