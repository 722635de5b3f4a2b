"""A model whose every answer takes SECONDS on one of SLOTS, as on a GPU of fixed speed."""

# mypy: ignore-errors
# (its imports are in the server's environment only, not in Slicewise's)

import asyncio
import os

import bentoml


@bentoml.service(
    workers=1,
    traffic={"timeout": 60, "max_concurrency": 10_000},  # above that it refuses
    logging={"access": {"enabled": False}},
)
class Sleeper:
    """Answers with the number it was given. Requests above the slots wait inside, first come first served."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(int(os.environ["SLOTS"]))
        self._seconds = float(os.environ["SECONDS"])

    @bentoml.api(route="/predict")
    async def predict(self, value: float = 1.0) -> float:
        async with self._slots:
            await asyncio.sleep(self._seconds)
        return value
