"""Functions: what `streams.toml` describes (`file`) and the APIs store (`stored`), found by name (`catalogue`) and kept
up to date while a process runs (`live`).
"""

from streams.functions.catalogue import Functions
from streams.functions.file import load_functions

__all__ = ["Functions", "load_functions"]
