"""The processes of a model come, go and are replaced; children in memory, so that every order can be had."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from inference.errors import ModelNotReady
from inference.model import Signature
from inference.runtime import child_pool
from inference.runtime.child_pool import ChildPool, Hold, restart_delay_s
from inference.runtime.child_process import Child, ChildDied
from inference.runtime.session import RunStopped
from inference.settings import RuntimeSettings
from inference.start_errors import ModelPackageInvalid
from inference.tensor import Tensors, TensorSpec
from tests.inference.runtime.child_twin import FILE, Twins

WAIT_S = 10.0
X: Tensors = {"x": np.ones((1, 1), np.float32)}


class Starts:
    """Starts children in memory; each start waits for its turn and may fail."""

    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        self.turns = threading.Semaphore(1)
        self.errors: list[Exception] = []  # of the next starts
        self.begun = threading.Semaphore(0)

    def __call__(self) -> Child:
        self.begun.release()
        assert self.turns.acquire(timeout=WAIT_S)
        if self.errors:
            raise self.errors.pop(0)
        return self.twins.start()


@pytest.fixture
def starts() -> Starts:
    return Starts(Twins(lambda inputs: {"y": inputs["x"] + 1}))


@pytest.fixture
def pool(starts: Starts) -> Iterator[ChildPool]:
    pool = ChildPool(FILE, RuntimeSettings(), starts)
    pool.open()
    assert starts.begun.acquire(timeout=WAIT_S)
    yield pool
    starts.turns.release(100)
    pool.close()
    assert all(process.status is not None for process in starts.twins.processes)


def until(pool: ChildPool, condition: Callable[[], bool]) -> None:
    """Wait for a change of the pool that brings this about."""
    with pool._change:
        assert pool._change.wait_for(condition, WAIT_S)


def run(pool: ChildPool) -> list[list[float]]:
    hold = Hold()
    child = pool.take(hold)
    outputs = child.run(X)
    pool.give_back(hold)
    return outputs["y"].tolist()


def die(starts: Starts, number: int = -1) -> None:
    starts.twins.processes[number].die(signal.SIGSEGV)


def test_the_wait_between_starts_grows_and_has_a_bound() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(8)]
    assert delays == [0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert restart_delay_s(20) == restart_delay_s(10**9) == 30.0


def test_one_process_serves_one_caller_after_another(pool: ChildPool, starts: Starts) -> None:
    assert [run(pool) for _ in range(3)] == [[[2.0]]] * 3
    assert pool.unready == ""
    assert len(starts.twins.processes) == 1


def test_who_finds_all_processes_busy_waits_for_one(pool: ChildPool) -> None:
    hold, answers = Hold(), list[object]()
    pool.take(hold)
    waiting = threading.Thread(target=lambda: answers.append(run(pool)))
    waiting.start()
    pool.give_back(hold)
    waiting.join(WAIT_S)
    assert answers == [[[2.0]]]


def test_every_seat_gets_a_process_and_takes_it_along_when_it_goes(pool: ChildPool, starts: Starts) -> None:
    pool.seat(1)
    assert len(pool.pids) == 1
    pool.seat(2)
    starts.turns.release(2)
    until(pool, lambda: len(pool._children) == 3)
    busy = Hold()
    taken = pool.take(busy)
    pool.seat(-3)
    until_gone = [p for p in starts.twins.processes if p.pid != taken.pid]
    assert [process.wait(WAIT_S) for process in until_gone] == [-signal.SIGKILL] * 2
    assert pool.pids == [taken.pid]
    pool.give_back(busy)
    assert run(pool) == [[2.0]]


def test_a_process_that_dies_idle_is_noticed_and_replaced(pool: ChildPool, starts: Starts) -> None:
    die(starts)
    assert starts.begun.acquire(timeout=WAIT_S)
    assert pool.unready == "its process died by SIGSEGV"
    starts.turns.release()
    until(pool, lambda: bool(pool._children))
    assert pool.unready == ""
    assert run(pool) == [[2.0]]


def test_a_process_that_has_run_and_dies_idle_is_noticed_too(pool: ChildPool, starts: Starts) -> None:
    assert run(pool) == [[2.0]]
    die(starts)
    assert starts.begun.acquire(timeout=WAIT_S)


def test_a_process_that_dies_busy_is_given_up_by_its_caller(pool: ChildPool, starts: Starts) -> None:
    hold = Hold()
    child = pool.take(hold)
    die(starts)
    with pytest.raises(ChildDied):
        child.run(X)
    pool.give_up(hold)
    assert hold.child is None
    starts.turns.release()
    assert run(pool) == [[2.0]]
    assert len(starts.twins.processes) == 2


def test_a_process_that_dies_after_its_answer_is_not_handed_on(pool: ChildPool, starts: Starts) -> None:
    hold = Hold()
    pool.take(hold).run(X)
    die(starts)
    pool._wait(0.0)  # as the keeper does, which may or may not have been quicker
    assert pool._hung_up
    pool.give_back(hold)
    starts.turns.release()
    assert run(pool) == [[2.0]]
    assert len(starts.twins.processes) == 2


def test_who_needs_a_process_that_does_not_come_back_is_told_why(
    pool: ChildPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_pool, "RESTART_WAIT_S", 0.01)
    die_and_see = Hold()
    pool.take(die_and_see).kill()
    pool.give_up(die_and_see)
    with pytest.raises(ModelNotReady, match=r"Model tiny/1 is not ready \(restarting\): its process"):
        pool.take(Hold())


def test_after_a_wait_that_is_too_long_nobody_waits(pool: ChildPool, starts: Starts) -> None:
    starts.turns.release(100)
    hold = Hold()
    for _ in range(8):  # one death after the other, without a run that ends
        with pool._change:
            pool._fall("its process died")
    pool.take(hold).kill()
    pool.give_up(hold)
    with pytest.raises(ModelNotReady):
        pool.take(Hold())


def test_who_waits_is_stopped(pool: ChildPool) -> None:
    busy, waiting, raised = Hold(), Hold(), list[type[BaseException]]()
    pool.take(busy)

    def wait() -> None:
        try:
            pool.take(waiting)
        except RunStopped as error:
            raised.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    pool.stop(waiting)
    thread.join(WAIT_S)
    assert raised == [RunStopped]
    pool.give_back(busy)


def test_a_process_that_was_stopped_just_after_its_answer_is_not_handed_on(pool: ChildPool, starts: Starts) -> None:
    hold = Hold()
    pool.take(hold).run(X)
    pool.stop(hold)
    pool.give_back(hold)
    starts.turns.release()
    assert run(pool) == [[2.0]]
    assert len(starts.twins.processes) == 2


# ---- starts that fail ------------------------------------------------------------------------------------------------


def test_a_first_start_that_fails_is_a_fault_of_the_package(starts: Starts) -> None:
    starts.errors.append(OSError("no more processes"))
    with pytest.raises(ModelPackageInvalid, match="its process cannot be started: no more processes"):
        ChildPool(FILE, RuntimeSettings(), starts).open()


def test_a_model_that_kills_the_process_that_loads_it_is_a_fault_of_the_package(starts: Starts) -> None:
    def start() -> Child:
        child = starts()
        die(starts)
        return child

    with pytest.raises(ModelPackageInvalid, match="the process that loads it died by SIGSEGV"):
        ChildPool(FILE, RuntimeSettings(), start).open()


def test_a_restart_that_fails_is_tried_again(pool: ChildPool, starts: Starts) -> None:
    starts.errors += [OSError("no memory"), OSError("no memory")]
    starts.turns.release(3)
    die(starts)
    until(pool, lambda: len(starts.twins.processes) == 2 and bool(pool._children))
    assert run(pool) == [[2.0]]


def test_a_model_that_has_changed_under_the_pool_is_not_served(pool: ChildPool, starts: Starts) -> None:
    starts.twins.signature = Signature((TensorSpec("z", "FP32", (1,)),), ())
    starts.turns.release()
    die(starts)
    until(pool, lambda: "another signature" in pool._why_down)
    assert "it has another signature than at the start" in pool.unready


def test_a_fault_of_the_keeper_lets_nobody_wait_for_ever(
    pool: ChildPool, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: Child) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pool, "_report", fault)
    busy = Hold()
    pool.take(busy)
    pool.seat(2)
    starts.turns.release()
    until(pool, lambda: len(pool._children) == 2)
    die(starts)
    until(pool, lambda: pool._closed)
    with pytest.raises(RuntimeError, match="the session is closed"):
        pool.take(Hold())
    assert pool.unready == "it is closed"
    pool.give_back(busy)


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_a_pool_that_is_closed_gives_nothing(starts: Starts) -> None:
    pool = ChildPool(FILE, RuntimeSettings(), starts)
    pool.open()
    pool.close()
    assert [process.status for process in starts.twins.processes] == [-signal.SIGKILL]
    assert pool.pids == []
    with pytest.raises(RuntimeError, match="the session is closed"):
        pool.take(Hold())
    pool.seat(-1)
    pool.close()


def test_a_pool_that_is_closed_while_it_loads_says_so(starts: Starts) -> None:
    assert starts.turns.acquire(timeout=WAIT_S)
    pool, raised = ChildPool(FILE, RuntimeSettings(), starts), list[str]()

    def open_pool() -> None:
        try:
            pool.open()
        except ModelPackageInvalid as error:
            raised.append(str(error))

    opening = threading.Thread(target=open_pool)
    opening.start()
    assert starts.begun.acquire(timeout=WAIT_S)
    closing = threading.Thread(target=pool.close)
    closing.start()
    starts.turns.release()
    for thread in (opening, closing):
        thread.join(WAIT_S)
    assert len(raised) == 1
    assert starts.twins.processes[0].status == -signal.SIGKILL


def test_who_runs_while_the_pool_is_closed_closes_its_process(starts: Starts) -> None:
    pool = ChildPool(FILE, RuntimeSettings(), starts)
    pool.open()
    hold = Hold()
    child = pool.take(hold)
    pool.close()
    with pytest.raises(ChildDied):
        child.run(X)
    pool.give_up(hold)
    assert pool.pids == []
    assert child.fileno() == -1
