"""When bytes may have come that a busy loop reads only now."""

from __future__ import annotations

import asyncio

from inference.servers.loop_round import LONG_ROUND_S, RESTLESS_S, LoopRound


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def rest() -> None:
    """Two turns of the loop in which nothing is heard."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_loop_at_rest_reads_bytes_as_they_come() -> None:
    clock = Clock()
    rounds = LoopRound(clock)
    rounds.heard()
    clock.now += 1e-4
    assert rounds.arrived_s() == clock.now
    await rest()
    clock.now += 60.0
    rounds.heard()
    assert rounds.arrived_s() == clock.now


async def test_what_came_during_a_long_round_counts_from_its_beginning() -> None:
    clock = Clock()
    rounds = LoopRound(clock)
    rounds.heard()
    clock.now += 10 * LONG_ROUND_S  # many sockets are read in this round
    rounds.heard()
    await asyncio.sleep(0)
    rounds.heard()
    assert rounds.arrived_s() == 100.0
    await asyncio.sleep(0)
    assert rounds.arrived_s() == clock.now  # whatever is asked between two rounds is asked now


async def test_a_loop_that_rested_after_a_long_round_owes_nothing() -> None:
    clock = Clock()
    rounds = LoopRound(clock)
    rounds.heard()
    clock.now += 10 * LONG_ROUND_S
    await rest()
    rounds.heard()
    assert rounds.arrived_s() == clock.now


async def test_long_rounds_are_told_of_at_once_and_forgotten_after_a_rest() -> None:
    clock, seen = Clock(), []
    rounds = LoopRound(clock, lambda seconds, crowded: seen.append((seconds, crowded)))
    rounds.heard()
    clock.now += RESTLESS_S + LONG_ROUND_S
    await asyncio.sleep(0)
    rounds.heard()
    assert seen == [(clock.now - 100.0, True)]
    await rest()
    rounds.heard()
    assert seen[1:] == [(0.0, False)]
    await rest()
    clock.now += 1e-4
    rounds.heard()
    assert len(seen) == 2  # short rounds are all alike


async def test_between_two_sockets_of_a_round_there_is_time_for_something_else() -> None:
    done: list[int] = []
    rounds = LoopRound(Clock())
    rounds.heard()
    rounds.meanwhile = lambda: done.append(1)
    rounds.heard()
    rounds.heard()
    await asyncio.sleep(0)
    rounds.heard()  # the first of its round
    assert len(done) == 2


async def test_while_it_is_calm_no_round_is_looked_at_and_a_long_one_is_forgotten() -> None:
    clock, seen, calm = Clock(), [], [False]
    rounds = LoopRound(clock, lambda seconds, _: seen.append(seconds), lambda: calm[0])
    rounds.heard()
    clock.now += 10 * LONG_ROUND_S
    await asyncio.sleep(0)
    rounds.heard()
    assert [seconds > LONG_ROUND_S for seconds in seen] == [True]
    await rest()
    calm[0] = True
    rounds.heard()
    assert seen[1:] == [0.0]
    clock.now += 60.0
    assert rounds.arrived_s() == clock.now
    rounds.heard()
    assert seen[1:] == [0.0], "nothing new is told"


async def test_a_loop_that_is_calm_and_never_rests_is_found_out() -> None:
    """Everybody is answered or refused at once, so nobody ever waits, and yet there is no end of them."""
    clock, seen = Clock(), []
    rounds = LoopRound(clock, lambda seconds, crowded: seen.append((seconds, crowded)), lambda: True)
    while clock.now < 100.0 + 3 * RESTLESS_S:
        for _ in range(20):
            rounds.heard()
            clock.now += 2e-4
        await asyncio.sleep(0)
    assert seen[-1][1], "it is crowded"
    assert seen[-1][0] > LONG_ROUND_S
    await rest()
    await rest()
    rounds.heard()
    assert seen[-1] == (0.0, False)


async def test_a_lone_caller_s_pauses_are_no_rounds() -> None:
    clock, seen = Clock(), []
    rounds = LoopRound(clock, lambda seconds, crowded: seen.append((seconds, crowded)), lambda: True)
    for _ in range(40):
        rounds.heard()
        clock.now += 1.0
        await rest()
    assert seen == []
