"""A session that runs in the server's engine, in its background band: whatever live callers leave of the runners."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial

from inference.device import Device
from inference.job_runner.server_link import Answered, ServerLink
from inference.model import Signature
from inference.protocols.job_frames import FindModel, FoundModel, encoded, rows_to_run
from inference.runtime.session import RunStopped
from inference.tensor import Tensors


class EngineSession:
    """A version that the server serves. `run` may be called from several threads; REQUESTS_MAX are under way at a time,
    and two threads keep a runner busy where one leaves it idle for a round trip after each batch."""

    bounded = False  # a run is as long as live callers let it wait

    def __init__(self, link: ServerLink, model: FoundModel) -> None:
        self._link = link
        self._model = model

    @classmethod
    def find(cls, link: ServerLink, name: str, version: int | None = None) -> EngineSession:
        """A version of the server. Raises ModelNotFound, VersionNotFound, ModelNotReady; Stopping without a server."""
        _, future = link.ask(lambda number: encoded(FindModel(number, name, version)))
        answer, _ = future.result()
        assert isinstance(answer, FoundModel)
        return cls(link, answer)

    @property
    def model(self) -> FoundModel:
        """Which version it is, with the hash of its file and the rows of a full batch."""
        return self._model

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return self._model.signature

    @property
    def device(self) -> Device:
        """Where the server runs it."""
        return self._model.device

    @property
    def unready(self) -> str:
        """See Session."""
        return "the server is gone" if self._link.closed else ""

    def run(self, inputs: Tensors) -> Tensors:
        """All outputs by name, after as long as live callers let it wait; rows are cut into batches as the server sees
        fit. Raises what a live caller is told: InputsRejected if these rows make the model fail, RunFailed, RunHung or
        RunCrashed if it is the model, and an Unavailable (Stopping, ModelNotReady, QueueFull) if it cannot be run now.
        """
        return self.seat().run(inputs)

    def seat(self) -> EngineSeat:
        """See Session."""
        return EngineSeat(self._link, self._model)

    def close(self) -> None:
        """Nothing to give back: the server holds the model."""


class EngineSeat:
    """A way into the engine, one run at a time. A stop withdraws the rows that have not started."""

    def __init__(self, link: ServerLink, model: FoundModel) -> None:
        self._link = link
        self._model = model
        self._guard = threading.Lock()  # over what follows
        self._stopped = False
        self._under_way: tuple[int, Future[Answered]] | None = None

    def run(self, inputs: Tensors) -> Tensors:
        """See Seat and EngineSession.run."""
        link, model = self._link, self._model
        if not link.take_place(unless=lambda: self._stopped):
            raise RunStopped
        try:
            question = partial(rows_to_run, name=model.name, version=model.version, inputs=inputs)
            with self._guard:
                if self._stopped:
                    raise RunStopped
                self._under_way = _, future = link.ask(question)
            return future.result()[1]
        finally:
            with self._guard:
                self._under_way = None
            link.give_place()

    def stop(self) -> None:
        """See Seat."""
        with self._guard:
            self._stopped = True
            under_way = self._under_way
        self._link.look_again()
        if under_way is not None:
            number, future = under_way
            self._link.withdraw(number)
            with suppress(InvalidStateError):
                future.set_exception(RunStopped())

    def reset(self) -> None:
        """See Seat."""
        self._stopped = False

    def close(self) -> None:
        """See Seat."""
