"""A model whose every answer takes SECONDS on one of SLOTS, as on a GPU of fixed speed."""

# mypy: ignore-errors
# (its imports are in the server's environment only, not in Slicewise's)

import asyncio
import os

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Sleeper(MLModel):
    """Answers with one number. Requests above the slots wait inside, first come first served."""

    async def load(self) -> bool:
        self._slots = asyncio.Semaphore(int(os.environ["SLOTS"]))
        self._seconds = float(os.environ["SECONDS"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        async with self._slots:
            await asyncio.sleep(self._seconds)
        answer = ResponseOutput(name="answer", shape=[1], datatype="FP32", data=[1.0])
        return InferenceResponse(model_name=self.name, outputs=[answer])
