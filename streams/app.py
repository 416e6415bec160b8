"""The Faust app that `faust -A streams.app worker` and `streams worker` run, configured by the environment."""

from __future__ import annotations

import os

from streams.engine.worker import create_app
from streams.settings import Settings

app = create_app(Settings.from_env(os.environ))
