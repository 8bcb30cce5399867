"""Requests that wait for the network, answered together: sixteen take little longer than one."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from starlette.exceptions import HTTPException

from lit_imdb.inference.classifier import Prediction, SentimentClassifier

MAX_WAITING = 8192  # reviews of usual length that wait or are in work


class Batches:
    """Answers in one forward pass whatever came in during the last one.

    Args:
        classifier: What answers, in one thread of its own; HTTP goes on in the main thread.
    """

    def __init__(self, classifier: SentimentClassifier) -> None:
        self._classifier = classifier
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self._free = asyncio.Lock()
        self._next: list[str] = []
        self._answers: asyncio.Future[list[Prediction]]
        self._waiting = 0

    async def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Return one answer per text of a request.

        Raises:
            HTTPException: 503, too much is waiting already.
        """
        cost = len(texts) + sum(map(len, texts)) // 4096
        if self._waiting + cost > MAX_WAITING:
            raise HTTPException(503, "too many requests are waiting", {"Retry-After": "1"})
        batch, start = self._next, len(self._next)
        batch.extend(texts)
        self._waiting += cost
        try:
            async with self._free:  # in order of arrival, so one batch after the other
                if batch is self._next:  # its first request has it computed for all of them
                    self._next = []
                    self._answers = self._in_thread(self._classifier.predict, batch)
                return (await self._answers)[start : start + len(texts)]
        finally:
            self._waiting -= cost

    async def explain(self, text: str) -> list[tuple[str, float]]:
        """Return the words read of a text, each with its influence."""
        words: list[tuple[str, float]] = await self._in_thread(self._classifier.explain, text)
        return words

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
