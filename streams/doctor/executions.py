"""Reads what the functions have written down (`functions`), as it grows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from streams.laws import Execution


class Executions:
    """The executions in a folder, by request id."""

    def __init__(self, folder: Path) -> None:
        self.by_id: defaultdict[str, list[Execution]] = defaultdict(list)
        """In the order in which they began; their attempts are numbered when all is read (`of`)."""
        self.since_ms: dict[str, float] = {}
        """When each process began to run functions."""
        self._folder = folder
        self._read: defaultdict[Path, int] = defaultdict(int)

    def read(self) -> None:
        """Take in what has been written since the last time."""
        for file in sorted(self._folder.iterdir()):
            with file.open("rb") as lines:
                lines.seek(self._read[file])
                text = lines.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[file] += len(whole)
            for line in whole.decode().splitlines():
                self._add(file.name, *line.split())

    def of(self, request_id: str) -> list[Execution]:
        """The executions of a request, numbered from 1 in the order in which they began."""
        began = sorted(self.by_id.get(request_id, ()), key=lambda execution: execution.started_ms)
        return [execution._replace(attempt=number) for number, execution in enumerate(began, 1)]

    def _add(self, process: str, what: str, request_id: str, at: str) -> None:
        executions = self.by_id[request_id]
        if what == "began":
            self.since_ms.setdefault(process, float(at))
            executions.append(Execution(request_id, 0, process, float(at), None))
            return
        for index in reversed(range(len(executions))):
            if executions[index].process == process and executions[index].ended_ms is None:
                executions[index] = executions[index]._replace(ended_ms=float(at))
                return
