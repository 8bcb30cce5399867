"""Requests that wait for the network, answered together: sixteen take little longer than one."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch
from starlette.exceptions import HTTPException

from lit_imdb.inference.classifier import SentimentClassifier

MAX_WAITING = 8192  # reviews of usual length that wait or are in work

Answers = list[dict[str, Any]]


class Batches:
    """Answers in one forward pass whatever came in during the last one.

    Args:
        classifier: What answers, in one thread of its own; HTTP goes on in the main thread.
    """

    def __init__(self, classifier: SentimentClassifier) -> None:
        self._classifier = classifier
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self._free = asyncio.Lock()
        self._next: list[tuple[Sequence[str], bool]] = []
        self._answers: asyncio.Future[list[Answers]]
        self._waiting = 0

    async def answer(self, texts: Sequence[str], size: int, explain: bool = False) -> Answers:
        """Return one answer per text of a request of `size` bytes, with `words` if `explain`.

        Raises:
            HTTPException: 503, too much is waiting already.
        """
        cost = len(texts) + size // 4096 + 16 * explain
        if self._waiting + cost > MAX_WAITING:
            raise HTTPException(503, "too many requests are waiting", {"Retry-After": "1"})
        batch, place = self._next, len(self._next)
        batch.append((texts, explain))
        self._waiting += cost
        try:
            async with self._free:  # in order of arrival, so one batch after the other
                if batch is self._next:  # its first request has it computed for all of them
                    self._next = []
                    loop = asyncio.get_running_loop()
                    self._answers = loop.run_in_executor(self._thread, self._compute, batch)
                return (await self._answers)[place]
        finally:
            self._waiting -= cost

    def _compute(self, batch: list[tuple[Sequence[str], bool]]) -> list[Answers]:
        predict, explain_each = self._classifier.predict, self._classifier.explain_each
        predictions = iter(predict([text for texts, _ in batch for text in texts]))
        words = iter(explain_each([text for texts, explain in batch if explain for text in texts]))
        return [
            [asdict(next(predictions)) | ({"words": next(words)} if explain else {}) for _ in texts]
            for texts, explain in batch
        ]
