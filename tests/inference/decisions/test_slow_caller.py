"""Callers who take their time, in virtual time: what is due, when, and for whom nothing is."""

from __future__ import annotations

from random import Random

import pytest

from inference.decisions.slow_caller import PROGRESS_BYTES_MIN, STILL_S, CallerWatch, Patience, Stage, Verdict

PATIENCE = Patience(head_s=10.0, body_s=60.0, stall_s=20.0, idle_s=75.0, leave_s=2.0)
MESSAGE = object()


def first_due(stage: Stage, *, bytes_a_second: int = 0, until_s: int = 1000) -> tuple[int, Verdict] | None:
    """The second at which something is due, and what, for a caller who stays in one stage."""
    watch = CallerWatch()
    for second in range(until_s):
        verdict = watch.look(stage, MESSAGE, second * bytes_a_second, PATIENCE, float(second))
        if verdict is not Verdict.WAIT:
            return second, verdict
    return None


@pytest.mark.parametrize(
    ("stage", "due"),
    [
        (Stage.SILENT, (10, Verdict.CLOSE)),
        (Stage.HEAD, (10, Verdict.REFUSE)),
        (Stage.BODY, (20, Verdict.REFUSE)),
        (Stage.ANSWER, (20, Verdict.DROP)),
        (Stage.IDLE, (75, Verdict.CLOSE)),
        (Stage.LEAVING, (2, Verdict.DROP)),
        (Stage.SERVED, None),
    ],
)
def test_each_stage_has_its_limit_and_its_end(stage: Stage, due: tuple[int, Verdict] | None) -> None:
    assert first_due(stage) == due


@pytest.mark.parametrize("stage", [Stage.BODY, Stage.ANSWER])
def test_what_moves_fast_enough_has_the_long_limit(stage: Stage) -> None:
    fast = first_due(stage, bytes_a_second=PROGRESS_BYTES_MIN // 10)
    slow = first_due(stage, bytes_a_second=PROGRESS_BYTES_MIN // 30)
    assert fast is not None
    assert slow is not None
    assert (fast[0], slow[0]) == (60, 20)


def test_bytes_help_nobody_in_the_headers() -> None:
    assert first_due(Stage.HEAD, bytes_a_second=10**6) == (10, Verdict.REFUSE)


def test_the_next_request_begins_anew() -> None:
    watch = CallerWatch()
    for second in range(200):
        message = MESSAGE if second % 9 else object()  # one is always another than the one before
        assert watch.look(Stage.HEAD, message, 0, PATIENCE, float(second)) is Verdict.WAIT
    assert watch.look(Stage.IDLE, MESSAGE, 0, PATIENCE, 200.0) is Verdict.WAIT


def test_no_caller_outstays_the_longest_limit_however_irregular_the_looks_are() -> None:
    random = Random(7)
    for _ in range(200):
        watch, now = CallerWatch(), 0.0
        stage = random.choice([stage for stage in Stage if stage is not Stage.SERVED])
        while watch.look(stage, MESSAGE, 0, PATIENCE, now) is Verdict.WAIT:
            now += random.uniform(0.1, STILL_S)
        assert now <= PATIENCE.idle_s + STILL_S


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.SERVED])
def test_a_server_that_stood_still_blames_nobody(stage: Stage) -> None:
    watch = CallerWatch()
    for now in (0.0, 0.5, 3600.0):
        assert watch.look(stage, MESSAGE, 0, PATIENCE, now) is Verdict.WAIT


def test_a_server_that_stands_still_again_and_again_has_limits_too() -> None:
    watch = CallerWatch()
    verdicts = [watch.look(Stage.HEAD, MESSAGE, 0, PATIENCE, 30.0 * look) for look in range(12)]
    assert verdicts.index(Verdict.REFUSE) == PATIENCE.head_s / STILL_S


def test_the_shortest_limit_says_how_often_to_look() -> None:
    assert PATIENCE.shortest_s == 2.0
