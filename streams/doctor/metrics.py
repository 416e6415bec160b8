"""What workers say of themselves on ``/metrics``: whether every invocation is accounted for, at every moment."""

from __future__ import annotations

import asyncio

from aiohttp import ClientError, ClientSession, ClientTimeout

from streams.doctor.crew import Crew
from streams.laws import Sample

SCRAPE_S = 1.0


class Scraper:
    """Asks all workers of a crew once a second."""

    def __init__(self, crew: Crew) -> None:
        self.samples: list[Sample] = []
        """Those that do not add up, and one that does."""
        self._crew = crew

    async def run(self) -> None:
        """Scrape, for ever."""
        async with ClientSession(timeout=ClientTimeout(total=2.0)) as session:
            while True:
                for slot in self._crew.slots:
                    if slot.pid is not None:
                        await self._scrape(f"http://127.0.0.1:{slot.http_port}/metrics", session)
                await asyncio.sleep(SCRAPE_S)

    async def _scrape(self, url: str, session: ClientSession) -> None:
        try:
            async with session.get(url) as answer:
                sample = read(await answer.text())
        except (ClientError, TimeoutError):
            return  # it is starting, frozen or gone
        if not self.samples or sample.accepted != sample.waiting + sample.running + sample.ended:
            self.samples.append(sample)


def read(page: str) -> Sample:
    """What a page of metrics says."""
    values: dict[str, float] = {}
    for line in page.splitlines():
        name, _, value = line.rpartition(" ")
        if name in ("streams_waiting", "streams_running", "streams_ended", "streams_drift"):
            values[name.removeprefix("streams_")] = float(value)
    waiting, running, ended = (int(values.get(name, 0)) for name in ("waiting", "running", "ended"))
    return Sample(waiting + running + ended + int(values.get("drift", 0)), waiting, running, ended)
