"""A process that fills a disk of its own: `unshare -rm python -m tests.inference.ledger.filling_process FOLDER`.

It mounts a small file system, completes shards until no room is left, makes room, and goes on. Then it writes, as a
line of JSON, the error, how many shards were done when it came, how many of them were there after it, and all at the
end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from inference.database.database import open_database
from inference.job_errors import LedgerUnavailable
from inference.ledger.sql_ledger import SqlLedger
from tests.inference.ledger.ledger_bench import ANN, LEASE_US, outcome, start, take

SHARDS = 40


def main(folder: Path) -> None:
    """See above."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    ledger = SqlLedger(open_database(folder / "ledger.sqlite"))
    job_id = start(ledger, SHARDS)
    with (folder / "other").open("wb", buffering=0) as other:
        try:
            while other.write(b"0" * 4096):
                continue
        except OSError:  # no room is left
            other.truncate(other.tell() - 8 * 4096)
    done, error = 0, ""
    while not error:
        try:
            done += ledger.complete(take(ledger), outcome())
        except LedgerUnavailable as refusal:
            error = str(refusal)
    kept = ledger.job(job_id).counts.shards_done
    (folder / "other").unlink()
    while claims := ledger.claim(ANN, 1, LEASE_US, dead=[ANN]):
        assert ledger.complete(claims[0], outcome())
    print(json.dumps([error, done, kept, ledger.job(job_id).counts.shards_done]))
    ledger.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
