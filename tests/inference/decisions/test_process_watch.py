"""Stories of server processes that start, die, fall silent and stop."""

from __future__ import annotations

from inference.decisions.process_watch import Kill, ProcessWatch, Start, Stop, WatchPolicy

POLICY = WatchPolicy(
    delay_first_s=0.1, delay_max_s=5.0, steady_s=60.0, silence_max_s=30.0, stop_limit_s=20.0, hurry_limit_s=3.0
)


def watch(processes: int = 2) -> ProcessWatch:
    found = ProcessWatch(processes, POLICY)
    assert found.begin(0.0) == [Start(place, 0) for place in range(processes)]
    return found


def die(found: ProcessWatch, now: float) -> float:
    """Process 0 dies at `now` and is replaced as soon as it is due; the time at which that is."""
    assert found.ended(0, now) is not None
    due_s = found.next_deadline()
    assert due_s is not None
    assert found.tick(due_s - 0.001) == []
    assert [type(decision) for decision in found.tick(due_s)] == [Start]
    return due_s


def test_all_are_started_at_once_and_nothing_is_due_but_their_silence() -> None:
    assert watch().next_deadline() == 30.0


def test_one_that_ends_is_replaced_after_a_moment_and_the_others_are_left_alone() -> None:
    found = watch()
    assert found.ended(1, 10.0) == 0.1
    assert found.next_deadline() == 10.1
    assert found.tick(10.05) == []
    assert found.tick(10.1) == [Start(1, 1)]
    assert found.tick(10.2) == []


def test_the_delay_doubles_up_to_its_bound() -> None:
    found = watch(1)
    now, delays = 0.0, []
    for _ in range(8):
        due_s = die(found, now)
        delays.append(round(due_s - now, 6))
        now = due_s
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_life_that_was_steady_makes_the_next_delay_short_again() -> None:
    found = watch(1)
    now = die(found, die(found, 0.0))
    for second in range(1, 60):
        found.heard(0, now + second)
    assert found.ended(0, now + 60.0) == 0.1


def test_one_that_falls_silent_is_killed_once_and_replaced_when_it_has_ended() -> None:
    found = watch()
    found.heard(0, 5.0)
    found.heard(1, 25.0)
    assert found.next_deadline() == 35.0
    assert found.tick(35.0) == [Kill(0, "it was silent for 30.0 s")]
    assert found.tick(36.0) == []
    assert found.ended(0, 36.5) == 0.1
    assert found.tick(36.6) == [Start(0, 1)]
    assert found.next_deadline() == 55.0


def test_a_watch_that_stood_still_itself_kills_nobody_and_goes_on_watching() -> None:
    """The whole server was paused, and its processes had no chance to speak either."""
    found = watch()
    assert found.tick(3600.0) == []
    assert found.next_deadline() == 3630.0
    found.heard(1, 3601.0)
    assert found.tick(3630.0) == [Kill(0, "it was silent for 30.0 s")]


def test_a_stop_asks_all_waits_and_kills_who_stays() -> None:
    found = watch()
    assert found.stop(10.0) == [Stop(0, False), Stop(1, False)]
    assert found.ended(0, 11.0) is None
    assert not found.finished
    assert found.next_deadline() == 30.0
    assert found.tick(29.0) == []
    assert found.tick(30.0) == [Kill(1, "it did not end in time")]
    assert found.ended(1, 30.1) is None
    assert found.finished
    assert found.next_deadline() is None


def test_a_hurried_stop_kills_sooner_and_a_later_calm_one_does_not_take_that_back() -> None:
    found = watch()
    found.stop(10.0)
    assert found.stop(12.0, hurry=True) == [Stop(0, True), Stop(1, True)]
    assert found.next_deadline() == 15.0
    found.stop(13.0)
    assert found.next_deadline() == 15.0


def test_nothing_is_started_in_a_stop() -> None:
    found = watch()
    found.ended(0, 1.0)
    assert found.stop(1.05) == [Stop(1, False)]
    assert found.tick(1.2) == []
    found.ended(1, 1.3)
    assert found.finished


def test_the_silent_are_not_killed_before_the_stop_limit() -> None:
    found = watch(1)
    found.stop(29.0)
    assert found.tick(40.0) == []
    assert found.tick(49.0) == [Kill(0, "it did not end in time")]
