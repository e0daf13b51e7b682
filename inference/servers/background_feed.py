"""Hands the batches of rows that a host sends to the engine's background band, and their outputs back.

Runs on the server's loop, so it does next to nothing: shapes are checked, tensors are views into what was received.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

from inference.decisions.background_band import REQUESTS_MAX, RETRY_AFTER_S
from inference.engine import Engine
from inference.errors import InferenceError, QueueFull, RunFailed, TooLarge
from inference.protocols.job_frames import FindModel, FoundModel, RunRows, encoded, refused, rows_that_ran
from inference.request import Answer, Priority, Request
from inference.served_model import ServedModel
from inference.tensor import Tensors

log = logging.getLogger(__name__)


class Models(Protocol):
    """Where versions are found (`ModelManager`)."""

    def resolve(self, name: str, version: int | None = None) -> ServedModel:
        """The version that answers. Raises ModelNotFound, VersionNotFound or ModelNotReady."""
        ...


class BackgroundFeed:
    """The rows of one host; `send` takes the pieces of a frame to it. All methods belong to the engine's loop.

    At most REQUESTS_MAX requests are under way, each of `bytes_max` bytes at most.
    """

    def __init__(
        self, models: Models, engine: Engine, bytes_max: int, send: Callable[[list[memoryview]], object]
    ) -> None:
        self._models = models
        self._engine = engine
        self._bytes_max = bytes_max
        self._send = send
        self._under_way: dict[int, Request] = {}

    def find(self, question: FindModel) -> None:
        """Answer which version it is."""
        try:
            served = self._models.resolve(question.name, question.version)
        except InferenceError as error:
            self._send(encoded(refused(question.number, error)))
            return
        package, session, profile = served.package, served.session, served.profile
        rows = profile.knee if profile.batched else None
        found = FoundModel(
            question.number, *served.key, package.sha256, served.signature, session.device, batch_rows=rows
        )
        self._send(encoded(found))

    def begin(self, rows: RunRows, inputs: Tensors) -> None:
        """Submit these rows as one request."""
        try:
            request = self._request(rows, inputs)
        except InferenceError as error:
            self._send(encoded(refused(rows.number, error)))
            return
        self._under_way[rows.number] = request
        self._engine.background.submit(request, partial(self._answered, rows.number))

    def withdraw(self, number: int) -> None:
        """The host does not wait for these rows any more."""
        request = self._under_way.pop(number, None)
        if request is not None:
            self._engine.background.cancel(request)

    def close(self) -> None:
        """The host is gone."""
        for number in list(self._under_way):
            self.withdraw(number)

    def _request(self, rows: RunRows, inputs: Tensors) -> Request:
        """Raises InferenceError for what cannot be taken."""
        served = self._models.resolve(rows.name, rows.version)
        if len(self._under_way) >= REQUESTS_MAX:
            given = len(self._under_way)
            raise QueueFull(served.label, "background requests", given, REQUESTS_MAX, RETRY_AFTER_S)
        request = served.request(inputs, request_id=f"background-{rows.number}", now=self._engine.clock())
        if request.byte_count > self._bytes_max:
            accepted = f"at most {self._bytes_max} (queue.bytes_max)"
            raise TooLarge("background request", f"{request.byte_count} bytes", accepted)
        request.priority, request.deadline_s = Priority.BACKGROUND, math.inf
        return request

    def _answered(self, number: int, answer: Answer) -> None:
        self._under_way.pop(number, None)
        if isinstance(answer, InferenceError):
            self._send(encoded(refused(number, answer)))
            return
        try:
            pieces = rows_that_ran(number, answer.outputs)
        except Exception as error:
            log.exception("the outputs of a batch of %s cannot be sent", answer.model)
            pieces = encoded(refused(number, RunFailed(str(answer.model), f"its outputs cannot be sent: {error}")))
        self._send(pieces)
