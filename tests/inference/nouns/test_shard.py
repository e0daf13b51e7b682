"""Shards, their owners and outcomes travel and read back."""

from __future__ import annotations

import msgspec

from inference.shard import Claim, Owner, Part, Piece, Shard, ShardFailure, ShardOutcome, ShardRange, Tally

RANGE = ShardRange(3, 30, 10, (Piece(0, 5, 10), Piece(1, 0, 5)))


def test_an_owner_reads_back_from_its_text_even_with_an_odd_host() -> None:
    owner = Owner("rack/7", "0b-1c", 42, "998877")
    assert Owner.read(str(owner)) == owner


def test_a_range_is_small_in_a_ledger() -> None:
    assert msgspec.json.encode(RANGE) == b"[3,30,10,[[0,5,10],[1,0,5]]]"
    assert msgspec.json.decode(msgspec.json.encode(RANGE), type=ShardRange) == RANGE


def test_a_shard_with_all_that_became_of_it_reads_back() -> None:
    outcome = ShardOutcome(Tally(10, 1, {"invalid_values": 1}, {"ok": 9}), Part("000003.1", 10, 99, "ab" * 32))
    shard = Shard("job_1", 3, "rows", "done", 1, range=RANGE, outcome=outcome)
    assert msgspec.json.decode(msgspec.json.encode(shard), type=Shard) == shard
    failed = Shard("job_1", 3, "rows", "failed", 2, failure=ShardFailure("end", "input_changed", "It changed."))
    assert msgspec.json.decode(msgspec.json.encode(failed), type=Shard) == failed


def test_a_claim_goes_to_a_worker_over_a_wire() -> None:
    claim = Claim("job_1", 3, "rows", 2, careful=True, range=RANGE)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(claim), type=Claim) == claim
