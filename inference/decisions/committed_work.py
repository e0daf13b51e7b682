"""The accepted rows that wait, by band and deadline, and by how much each could still be put off. Pure.

Rows are counted in cells of CELL_S of deadline. From the cells a table is drawn: for each cell, in the order in which
the scheduler serves them, when its rows will be done and how much later they may be. As long as the model runs as
predicted the table stays true while rows are served, so it is drawn anew only now and then; in between every accepted
request is charged to all that may come behind it, and itself may be put off by what was found when it was judged. That
errs on the side of refusing, for as long as one drawing is old.

Bounds: a cell for each waiting request at most. Drawing takes about 1 us a cell. It is done after every accepted
request if that is little beside a row's work, else no more often than every CELL_AGE_S a cell: 1 % of a core.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from math import inf, sqrt

from inference.decisions.band_demand import BANDS, Keep
from inference.decisions.promise_margin import PART_MAX
from inference.request import Request

CELLS_EACH_S = 1024  # cells of about a millisecond
CELL_AGE_S = 100e-6
ROW_SHARE = 0.25  # of the time for which a drawing is kept: then it costs 4 % of the work of the rows at most
OVERDUE_SHARE = 1 / 3  # batches that go to overdue requests, for each one that runs in order: one of four in all


class CommittedWork:
    """What waits in one version's queue. `row_s` is the time that each waiting row adds for those behind it."""

    def __init__(self) -> None:
        self.rows = 0
        self.band_rows = [0] * BANDS
        self.earliest_s = inf  # no waiting request is due before
        self._cells: list[dict[int, list[float]]] = [{} for _ in range(BANDS)]  # rows, first deadline
        self._cut: list[dict[Request, float]] = [{} for _ in range(BANDS)]  # above the knee, with their deadlines
        self._waiting: OrderedDict[Request, None] = OrderedDict()  # the oldest first
        # The table: lists over the cells of a band, in order.
        self.drawn = False
        self._due_s: list[list[float]] = [[] for _ in range(BANDS)]
        self._ahead: list[list[int]] = [[0] for _ in range(BANDS)]  # rows before the cell; one more: behind all
        self._spare_s: list[list[float]] = [[inf] for _ in range(BANDS)]  # of it and those behind it in the band
        self._spare_below_s = [inf] * BANDS  # of all in the bands below
        self._drawn_s = self._drawn_for_s = 0.0
        self._start_s = self._tail_s = self._margin_s = 0.0
        self._row_s = 0.0
        # What has happened since.
        self._started = 0
        self._added = [0] * BANDS  # in the band or above
        self._fresh_s = [inf] * BANDS
        self._fresh_below_s = [inf] * BANDS

    def add(self, request: Request, rows_uncut: int) -> None:
        """All rows of `request` wait now. It is cut if they are more than `rows_uncut`."""
        band, rows, due_s = request.priority, request.rows, request.deadline_s
        self.rows += rows
        self.band_rows[band] += rows
        if due_s < self.earliest_s:
            self.earliest_s = due_s
        cells = self._cells[band]
        key = int(due_s * CELLS_EACH_S)
        cell = cells.get(key)
        if cell is None:
            cells[key] = [rows, due_s]
        else:
            cell[0] += rows
            if due_s < cell[1]:
                cell[1] = due_s
        self._waiting[request] = None
        if rows > rows_uncut:
            self._cut[band][request] = due_s

    def remove(self, request: Request, rows: int, *, last: bool) -> None:
        """`rows` of it wait no more, `last` of all."""
        band = request.priority
        self.rows -= rows
        self.band_rows[band] -= rows
        key = int(request.deadline_s * CELLS_EACH_S)
        cell = self._cells[band][key]
        cell[0] -= rows
        if cell[0] <= 0:
            del self._cells[band][key]
        if last:
            del self._waiting[request]
            self._cut[band].pop(request, None)
        if not self.rows:
            self.earliest_s = inf
            self.drawn = False

    def started(self, rows: int) -> None:
        """A batch of `rows` runs now; they were ahead of all that wait."""
        self._started += rows

    # ---- the table ---------------------------------------------------------------------------------------------------

    def outdated(self, now: float) -> bool:
        """Whether it is time to draw the table anew."""
        return not self.drawn or now - self._drawn_s > self._drawn_for_s

    def draw(
        self, now: float, start_s: float, row_s: float, tail_s: float, margin_s: float, keep: Keep, patience_s: float
    ) -> None:
        """Work out when everything will be done if the runners get to it at `start_s`.

        `tail_s` is added to each, and the margin, as far as it is PART_MAX of the time that is left. `keep` is what to
        keep free for the bands above each band.
        """
        self._drawn_s, self._start_s, self._row_s, self.drawn = now, start_s, row_s, True
        self._tail_s, self._margin_s = tail_s, margin_s
        self._drawn_for_s = CELL_AGE_S * sum(map(len, self._cells))
        self._started = 0
        self._added = [0] * BANDS
        self._fresh_s = [inf] * BANDS
        self._fresh_below_s = [inf] * BANDS
        self._spare_below_s = [inf] * BANDS
        self.earliest_s = inf
        overdue = bool(self._waiting) and now - next(iter(self._waiting)).arrived_s >= patience_s
        ahead = 0
        for band in range(1, BANDS):
            ahead = self._draw_band(band, ahead, now, keep, overdue=overdue)

    def _draw_band(self, band: int, ahead: int, now: float, keep: Keep, *, overdue: bool) -> int:
        start_s, row_s, below_s = self._start_s, self._row_s, self._spare_below_s
        tail_s, margin_s = self._tail_s, self._margin_s
        due: list[float] = []
        spares: list[float] = []
        aheads = [ahead]
        bands_above = range(1, band)
        for _, (rows, due_s) in sorted(self._cells[band].items()):
            begins_s = start_s + ahead * row_s
            ahead += int(rows)
            due.append(due_s)
            aheads.append(ahead)
            if due_s <= max(begins_s, now):  # lost: it will not even begin in time, so nothing is kept back for it
                spares.append(inf)
                continue
            late = min(self.rows - ahead, OVERDUE_SHARE * ahead) if overdue else 0.0
            time_s = due_s - now
            spare_s = due_s - start_s - (ahead + late) * row_s - tail_s - min(margin_s, PART_MAX * time_s)
            rate, variance = keep[band]
            spares.append(spare_s - rate * time_s - sqrt(variance * time_s))
            for above in bands_above:
                rate, variance = keep[above]
                below_s[above] = min(below_s[above], spare_s - rate * time_s - sqrt(variance * time_s))
        if due:
            self.earliest_s = min(self.earliest_s, due[0])
        spares.append(self._spare_of_cut(band, ahead))
        for above in bands_above:
            below_s[above] = min(below_s[above], spares[-1])
        for index in range(len(spares) - 2, -1, -1):
            if spares[index + 1] < spares[index]:
                spares[index] = spares[index + 1]
        self._due_s[band], self._ahead[band], self._spare_s[band] = due, aheads, spares
        return ahead

    def _spare_of_cut(self, band: int, ahead: int) -> float:
        """The rest of a cut request runs behind the others of its band, so it is done when all of them are."""
        cut = self._cut[band]
        done_s = self._start_s + ahead * self._row_s + self._tail_s + self._margin_s
        return min(cut.values()) - done_s if cut else inf

    def shift_s(self, start_s: float) -> float:
        """By how much all is later than the table says, now that the runners get to the next row at `start_s`."""
        return start_s - self._start_s - self._started * self._row_s

    def look(self, band: int, due_s: float, shift_s: float, *, cut: bool) -> tuple[int, float, float]:
        """Where a request of this band and deadline would stand.

        The rows that run before it, and the seconds by which those behind it may be put off: in its own band, and in
        the bands below. A request that is `cut` runs behind all of its band.
        """
        due, added = self._due_s[band], self._added
        index = before = bisect_right(due, due_s)
        if index and int(due[index - 1] * CELLS_EACH_S) == int(due_s * CELLS_EACH_S):
            index -= 1  # some of that cell are due later
        ahead = self._ahead[band][-1 if cut else before] + added[band] - self._started
        own_s, fresh_s = self._spare_s[band][index], self._fresh_s[band]
        if fresh_s < own_s:
            own_s = fresh_s
        below_s, fresh_s = self._spare_below_s[band], self._fresh_below_s[band]
        if fresh_s < below_s:
            below_s = fresh_s
        row_s = self._row_s
        return (
            max(0, ahead),
            own_s - shift_s - added[band] * row_s,
            below_s - shift_s - added[-1] * row_s,
        )

    def charge(self, band: int, rows: int, shift_s: float, spare_s: float, spare_from_above_s: float) -> None:
        """A request was accepted since the table was drawn; its own band and those above may put it off by so much."""
        added, row_s = self._added, self._row_s
        if row_s > ROW_SHARE * self._drawn_for_s:
            self.drawn = False
            return
        for below in range(band, BANDS):
            added[below] += rows
        self._fresh_s[band] = min(self._fresh_s[band], spare_s + shift_s + added[band] * row_s)
        fresh_s = spare_from_above_s + shift_s + added[-1] * row_s
        for above in range(1, band):
            if fresh_s < self._fresh_below_s[above]:
                self._fresh_below_s[above] = fresh_s
