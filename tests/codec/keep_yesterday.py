"""Keep today's schemas and a record of each under `yesterday/`, for the day after a change.

Run it after a new schema or a change to one: ``python -m tests.codec.keep_yesterday``. It only adds files.
"""

import json
from pathlib import Path

from .samples import CODEC, SCHEMAS, example_of

FOLDER = Path(__file__).parent / "yesterday"


def main() -> None:
    for schema in SCHEMAS.current.values():
        stem = FOLDER / f"{schema.name}.{schema.fingerprint.hex()}"
        if not stem.with_name(stem.name + ".avsc").exists():
            stem.with_name(stem.name + ".avsc").write_text(schema.text, encoding="utf-8")
            stem.with_name(stem.name + ".bin").write_bytes(
                CODEC.encode(schema.name, example_of(json.loads(schema.text)))
            )


if __name__ == "__main__":
    main()
