"""Many callers, one model: their texts run in common batches, in the callers' own threads and a few helping ones."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.encode.fitting import SMALLEST, batches, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.tokens import Route, Tokens

    Forward = Callable[[Sequence[Tokens], Route, bool], Vectors]

_HELPS = -1  # a helping thread works until the call is over


@dataclass(eq=False)
class _Unit:
    """A batch of one call.

    Attributes:
        call: Whose texts they are.
        pieces: Their token ids, the longest first.
        indices: Which texts of the call they are.
        vectors: Where their vectors go, shape (texts of the slice, width)...
        rows: ... and in which rows.
        finished: Whether it was run and its call told so.
    """

    call: _Call
    pieces: list[Tokens]
    indices: list[int]
    vectors: Vectors
    rows: list[int]
    finished: bool = False

    def __post_init__(self) -> None:
        self.longest = len(self.pieces[0])
        self.tokens = sum(len(piece) for piece in self.pieces)


@dataclass(eq=False)
class _Call:
    """A call of `BatchQueue.run`; read and changed under the queue's lock."""

    route: Route
    done: Callable[[list[int]], None] | None
    caller: threading.Thread = field(default_factory=threading.current_thread)
    waiting: deque[_Unit] = field(default_factory=deque)
    unfinished: int = 0  # units that wait or run
    served: int = 0  # units taken, counted from where the others stood when this call came
    helpers: int = 0
    over: bool = False
    error: Exception | None = None


class BatchQueue:
    """Runs a model for any number of threads.

    A call is laid out in batches of similar length and, if there are several, helping threads start; up to ``lanes``
    batches run at once. A lone caller waits for nobody. A batch that is not full takes in waiting ones of other callers
    if their texts are of similar length. The call that came last is served first once, then all in turn, so that a
    query does not stand behind a whole corpus.

    An error goes to the caller whose text caused it: a batch of several callers that fails runs again for each alone.

    Args:
        forward: Runs the model over texts as token ids. Its last argument says that nothing else runs or waits: the
            batch may take the whole machine.
        width: Dimensions of the vectors that ``forward`` returns.
        lanes: Batches that run at once.
        budget: Most tokens in a batch, padding included.
    """

    def __init__(self, forward: Forward, *, width: int, lanes: int, budget: int) -> None:
        self._forward = forward
        self._width = width
        self._lanes = lanes
        self._budget = budget
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._calls: list[_Call] = []
        self._running = 0

    def run(
        self, slices: Iterable[list[Tokens]], route: Route, done: Callable[[list[int]], None] | None = None
    ) -> Vectors:
        """Run the model over texts.

        Args:
            slices: The texts as token ids, slice by slice. While one runs the next is asked for, in this thread.
            route: What the model is told of them.
            done: Called with the indices of texts that are finished, from any thread, one call at a time.

        Returns:
            float32 of shape (texts, width), in the order of the slices.
        """
        if self._process != os.getpid():  # a fork takes along the calls of threads that do not exist in the child
            self._start()
        call = _Call(route, done)
        vectors: list[Vectors] = []
        try:
            for pieces in slices:
                vectors.append(np.empty((len(pieces), self._width), dtype=np.float32))
                ahead = self._submit(call, pieces, vectors)
                self._work(call, leave=ahead)
            self._work(call, leave=0)
        finally:
            with self._changed:  # also when a slice fails or the user interrupts: nobody works for a caller who left
                call.over = True
                call.waiting.clear()
                self._calls = [other for other in self._calls if other is not call]
                self._changed.notify_all()
        if call.error is not None:
            raise call.error
        return np.concatenate(vectors) if vectors else np.empty((0, self._width), dtype=np.float32)

    def _submit(self, call: _Call, pieces: list[Tokens], vectors: list[Vectors]) -> int:
        """Put a slice in the queue, start helpers if it is more than one batch, and return how many it is."""
        lengths = [len(piece) for piece in pieces]
        before = sum(len(part) for part in vectors[:-1])
        units = [
            _Unit(call, [pieces[row] for row in rows], [before + row for row in rows], vectors[-1], rows)
            for rows in batches(lengths, share(sum(lengths), self._budget, self._lanes))
        ]
        with self._changed:
            call.waiting.extend(units)
            call.unfinished += len(units)
            if not any(other is call for other in self._calls):
                call.served = min((other.served for other in self._calls), default=0) - 1
                self._calls.append(call)
            self._changed.notify_all()
        while len(units) > 1 and call.helpers < self._lanes:
            # Not a daemon: the interpreter would end while it is inside the model, and the process abort.
            threading.Thread(target=self._work, args=(call, _HELPS), name="rag-embeddings", daemon=False).start()
            call.helpers += 1
        return len(units)

    def _work(self, call: _Call, leave: int) -> None:
        """Run batches, of any call, until at most ``leave`` units of this one are unfinished or it is over.

        A helping thread stops earlier where the interpreter is about to end and does not wait for the caller.
        """
        while taken := self._take(call, leave):
            units, alone = taken
            try:
                self._run(units, alone=alone)
            except BaseException:  # the user interrupts this thread: what it took of others goes back
                with self._changed:
                    for unit in units:
                        if not unit.finished:  # counted twice, it would end its call before the last unit ran
                            unit.call.waiting.appendleft(unit)
                raise
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    def _take(self, call: _Call, leave: int) -> tuple[list[_Unit], bool] | None:
        """Wait for a lane and take the next batch, with whether it is the only one; None if the work is done."""
        with self._changed:
            while call.unfinished > leave and not call.over and call.error is None:
                if leave == _HELPS and call.caller.daemon and not threading.main_thread().is_alive():
                    return None
                ready = [other for other in self._calls if other.waiting]
                if ready and self._running < self._lanes:
                    units = self._merged(ready)
                    self._running += 1
                    return units, self._running == 1 and not any(other.waiting for other in ready)
                self._changed.wait()
            return None

    def _merged(self, ready: list[_Call]) -> list[_Unit]:
        """Take the next unit out of the queue, and those of other calls that fit into its batch."""
        tokens = sum(unit.tokens for call in ready for unit in call.waiting)
        budget = share(tokens + tokens // 4, self._budget, self._lanes)  # with some padding
        first = min(ready, key=lambda call: call.served)
        units = [first.waiting.popleft()]
        first.served += 1
        longest, count, tokens = units[0].longest, len(units[0].pieces), units[0].tokens
        for call in ready:
            if call is first or call.route != first.route or longest * (count + 1) > budget:
                continue
            for unit in list(call.waiting):
                width, height = max(longest, unit.longest), count + len(unit.pieces)
                padding = width * height - tokens - unit.tokens
                if width * height <= budget and padding <= max(SMALLEST, width * height // 4):
                    call.waiting.remove(unit)
                    call.served += 1
                    units.append(unit)
                    longest, count, tokens = width, height, tokens + unit.tokens
        return units

    def _run(self, units: list[_Unit], *, alone: bool) -> None:
        try:
            vectors = self._forward([piece for unit in units for piece in unit.pieces], units[0].call.route, alone)
        except Exception as error:  # noqa: BLE001  (handed to the caller, who raises it)
            if len(units) == 1:
                self._finish(units[0], error)
            else:
                for unit in units:
                    self._run([unit], alone=False)
            return
        start = 0
        for unit in units:
            unit.vectors[unit.rows] = vectors[start : start + len(unit.rows)]
            start += len(unit.rows)
        # Who waits for the last unit may end the process, and a tensor that is let go by this thread then aborts it.
        del vectors
        for unit in units:
            self._finish(unit)

    def _finish(self, unit: _Unit, error: Exception | None = None) -> None:
        call = unit.call
        with self._changed:
            unit.finished = True
            call.unfinished -= 1
            if error is None and call.done is not None and not call.over:
                try:
                    call.done(unit.indices)
                except Exception as failed:  # noqa: BLE001  (the caller's, whosever thread this is)
                    error = failed
            if error is not None:
                call.error = call.error or error
                call.waiting.clear()
            self._changed.notify_all()
