"""BatchQueue: whoever calls, with whatever, from however many threads, gets what the model alone would have given."""

import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.batch_queue import BatchQueue

POISON = 666


class Model:
    """Adds up token ids; remembers its batches; fails on a batch that holds the poison."""

    def __init__(self):
        self.batches = []
        self.at_once = 0
        self.most_at_once = 0
        self.alone = []
        self.lock = threading.Lock()

    def __call__(self, pieces, role, alone):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.batches.append([tuple(piece) for piece in pieces])
            self.alone.append(alone)
        try:
            if any(POISON in piece for piece in pieces):
                raise FloatingPointError(str(next(piece[0] for piece in pieces if POISON in piece)))
            return np.array([[piece.sum(), len(piece), role is Role.QUERY] for piece in pieces], dtype=np.float32)
        finally:
            with self.lock:
                self.at_once -= 1

    def expected(self, pieces, role):
        found = [[piece.sum(), len(piece), role is Role.QUERY] for piece in pieces]
        return np.array(found, dtype=np.float32).reshape(len(pieces), 3)


class Gate(Model):
    """A model whose first batch waits until it is let through."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, pieces, role, alone):
        if not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(30)
        return super().__call__(pieces, role, alone)


def queue(model, lanes=2, budget=600):
    return BatchQueue(model, width=3, lanes=lanes, budget=budget)


def piece(*ids):
    return np.array(ids, dtype=np.int64)


def waiting(runs, count):
    """Wait until so many calls stand in the queue."""
    with runs._changed:
        assert runs._changed.wait_for(lambda: sum(len(call.waiting) for call in runs._calls) == count, 30)


pieces_of_a_text = st.lists(st.integers(0, 99), min_size=1, max_size=400).map(lambda ids: piece(*ids))
lengths = st.lists(st.integers(1, 400), max_size=30)


def texts(sizes, seed):
    random = np.random.default_rng(seed)
    return [random.integers(0, 99, size) for size in sizes]


def sliced(items, size):
    return (items[start : start + size] for start in range(0, len(items), size))


class TestOneCaller:
    @given(sizes=lengths, size=st.integers(1, 40), lanes=st.integers(1, 3), budget=st.integers(1, 900))
    @settings(max_examples=60, deadline=None)
    def test_each_text_runs_once_in_order_and_within_the_budget(self, sizes, size, lanes, budget):
        model, given_texts = Model(), texts(sizes, 0)
        found = queue(model, lanes, budget).run(sliced(given_texts, size), Role.QUERY)
        assert np.array_equal(found, model.expected(given_texts, Role.QUERY))
        assert sorted(ids for batch in model.batches for ids in batch) == sorted(tuple(text) for text in given_texts)
        for batch in model.batches:
            assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= budget
        assert model.most_at_once <= lanes
        assert found.dtype == np.float32

    def test_a_single_batch_starts_no_thread_and_may_take_the_machine(self):
        threads = []

        class Watched(Model):
            def __call__(self, pieces, role, alone):
                threads.append(threading.current_thread())
                return super().__call__(pieces, role, alone)

        model = Watched()
        queue(model).run([[piece(1, 2), piece(3)]], Role.QUERY)
        assert threads == [threading.current_thread()]
        assert model.alone == [True]

    def test_two_batches_run_side_by_side(self):
        both = threading.Barrier(2, timeout=30)

        def forward(pieces, role, alone):
            both.wait()
            assert not alone
            return np.zeros((len(pieces), 3))

        queue(forward).run([texts([300, 300], 0)], Role.QUERY)

    def test_the_next_slice_is_asked_for_while_one_runs(self):
        model = Gate()

        def slices():
            yield texts([500, 500], 0)
            assert model.entered.wait(30)
            assert not model.batches  # nothing is finished yet
            model.opened.set()
            yield texts([5], 1)

        assert len(queue(model, lanes=1).run(slices(), Role.QUERY)) == 3

    def test_every_text_is_reported_done_once(self):
        seen = []
        queue(Model()).run(sliced(texts([100] * 50, 0), 20), Role.QUERY, seen.extend)
        assert sorted(seen) == list(range(50))

    def test_an_error_is_raised_and_the_queue_goes_on(self):
        runs = queue(Model())
        with pytest.raises(FloatingPointError):
            runs.run([[piece(1), *texts([400] * 9, 0), piece(POISON)]], Role.QUERY)
        assert len(runs.run([texts([400] * 9, 0)], Role.QUERY)) == 9

    def test_an_error_of_a_slice_is_raised_and_the_queue_goes_on(self):
        def slices():
            yield texts([400] * 9, 0)
            raise KeyError("no more")

        runs = queue(Model())
        with pytest.raises(KeyError, match="no more"):
            runs.run(slices(), Role.QUERY)
        assert not runs._calls
        assert len(runs.run([texts([400] * 9, 0)], Role.QUERY)) == 9

    def test_an_interrupt_leaves_a_queue_that_works(self):
        model = Model()

        def forward(pieces, role, alone):
            if not model.batches:
                model.batches.append([])
                raise KeyboardInterrupt
            return model(pieces, role, alone)

        runs = queue(forward)
        with pytest.raises(KeyboardInterrupt):
            runs.run([texts([3], 0)], Role.QUERY)
        assert len(runs.run([texts([400] * 9, 0)], Role.QUERY)) == 9


class TestManyCallers:
    @given(calls=st.lists(st.tuples(lengths, st.sampled_from(Role), st.booleans()), min_size=1, max_size=12))
    @settings(max_examples=30, deadline=None)
    def test_each_gets_its_own_vectors_or_its_own_error(self, calls):
        model = Model()
        runs = queue(model)
        work = []
        for number, (sizes, role, bad) in enumerate(calls):
            found = texts(sizes, number)
            work.append(([*found, piece(1000 + number, POISON)] if bad else found, role, bad))
        with ThreadPoolExecutor(len(work)) as pool:
            futures = [pool.submit(runs.run, sliced(found, 7), role) for found, role, _ in work]
            for number, (future, (found, role, bad)) in enumerate(zip(futures, work, strict=True)):
                if bad:
                    assert str(future.exception()) == str(1000 + number)
                else:
                    assert np.array_equal(future.result(), model.expected(found, role))
        assert model.most_at_once <= 2
        assert not runs._calls
        with runs._changed:  # a helper may still be about to say that it has finished
            assert runs._changed.wait_for(lambda: runs._running == 0, 30)

    def run_behind_a_gate(self, runs, model, first, others):
        """Let one call run into the gate, line up the others behind it, then open."""
        with ThreadPoolExecutor(len(others) + 1) as pool:
            futures = [pool.submit(runs.run, [first], Role.DOCUMENT)]
            assert model.entered.wait(30)
            for number, (pieces, role) in enumerate(others, 1):
                futures.append(pool.submit(runs.run, [pieces], role))
                waiting(runs, number)
            model.opened.set()
        return futures

    def test_waiting_calls_share_a_batch(self):
        model = Gate()
        others = [([piece(n, n)], Role.DOCUMENT) for n in range(15)]
        futures = self.run_behind_a_gate(queue(model, lanes=1), model, [piece(50)], others)
        assert [len(batch) for batch in model.batches] == [1, 15]
        assert [future.result()[0, 0] for future in futures] == [50, *range(0, 30, 2)]

    def test_but_not_queries_with_documents(self):
        model = Gate()
        others = [([piece(n)], role) for n in range(6) for role in Role]
        self.run_behind_a_gate(queue(model, lanes=1), model, [piece(50)], others)
        assert [len(batch) for batch in model.batches] == [1, 6, 6]

    def test_nor_texts_that_would_be_mostly_padding(self):
        model = Gate()
        others = [([np.ones(size, dtype=np.int64)], Role.DOCUMENT) for size in (400, 4, 390, 6)]
        self.run_behind_a_gate(queue(model, lanes=1, budget=2048), model, [piece(50)], others)
        assert sorted(sorted(map(len, batch)) for batch in model.batches) == [[1], [4, 6], [390, 400]]

    def test_waiting_calls_are_shared_among_the_lanes(self):
        model = Gate()
        others = [([np.ones(100, dtype=np.int64)], Role.DOCUMENT) for _ in range(8)]
        runs = queue(model, lanes=1, budget=2048)
        runs._lanes = 2
        runs._running = 1  # one lane is taken by somebody else
        self.run_behind_a_gate(runs, model, [piece(50)], others)
        assert [len(batch) for batch in model.batches] == [1, 5, 2, 1]  # half of what waits, and a little

    def test_the_callers_whose_texts_are_good_do_not_notice_a_bad_one(self):
        model = Gate()
        others = [([piece(n, POISON if n == 3 else 0)], Role.DOCUMENT) for n in range(6)]
        futures = self.run_behind_a_gate(queue(model, lanes=1), model, [piece(50)], others)
        assert len(model.batches[1]) == 6  # they did share it
        assert str(futures[4].exception()) == "3"
        assert [future.result()[0, 0] for n, future in enumerate(futures) if n != 4] == [50, 0, 1, 2, 4, 5]

    def test_a_query_does_not_stand_behind_a_corpus(self):
        model = Gate()
        corpus = [np.full(500, 7) for _ in range(20)]
        with ThreadPoolExecutor(2) as pool:
            runs = queue(model, lanes=1)
            long = pool.submit(runs.run, [corpus], Role.DOCUMENT)
            assert model.entered.wait(30)
            short = pool.submit(runs.run, [[piece(1)]], Role.QUERY)
            waiting(runs, 20)
            model.opened.set()
            assert len(long.result()) == 20
            assert len(short.result()) == 1
        assert model.batches[1] == [(1,)]

    def test_calls_take_turns(self):
        model = Gate()
        late = [np.full(500, 1) for _ in range(9)], Role.DOCUMENT
        runs = queue(model, lanes=1)
        with ThreadPoolExecutor(2) as pool:
            pool.submit(runs.run, [[np.full(500, 0) for _ in range(20)]], Role.DOCUMENT)
            assert model.entered.wait(30)
            pool.submit(runs.run, [late[0]], late[1])
            waiting(runs, 28)
            model.opened.set()
        order = [batch[0][0] for batch in model.batches]
        assert order[1:18].count(1) == 9
        assert order[1] == 1

    def test_an_interrupted_caller_gives_back_what_it_took_of_others(self):
        model = Gate()

        def forward(pieces, role, alone):
            if len(pieces) == 2 and not interrupted.is_set():
                interrupted.set()
                raise KeyboardInterrupt
            return model(pieces, role, alone)

        interrupted = threading.Event()
        runs = queue(forward, lanes=1)

        def patient(number):
            with suppress(KeyboardInterrupt):
                return runs.run([[piece(number)]], Role.DOCUMENT)[0, 0]

        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(patient, 50)
            assert model.entered.wait(30)
            others = [pool.submit(patient, 1), pool.submit(patient, 2)]
            waiting(runs, 2)
            model.opened.set()
            assert first.result() == 50
            assert sorted(str(other.result()) for other in others) in (["1.0", "None"], ["2.0", "None"])
        assert not runs._calls
        assert runs._running == 0

    def test_what_was_finished_before_an_interrupt_is_not_counted_twice(self):
        runs = queue(Model(), lanes=1)
        shared = threading.Event()

        def slices():
            yield [piece(1)]
            assert shared.wait(30)
            yield [piece(2)]

        def interrupt(_):
            if not shared.is_set():
                raise KeyboardInterrupt

        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(runs.run, slices(), Role.DOCUMENT, interrupt)
            waiting(runs, 1)
            with pytest.raises(KeyboardInterrupt):
                runs.run([[piece(3)]], Role.DOCUMENT)  # in one batch with the other's first piece
            shared.set()
            assert other.result()[:, 0].tolist() == [1, 2]
        assert runs._running == 0

    def test_a_failing_progress_bar_is_the_callers_error_whoever_finished_the_batch(self):
        model = Model()
        main, failed = threading.current_thread(), threading.Event()

        def forward(pieces, role, alone):
            if threading.current_thread() is main:
                assert failed.wait(30)  # let a helping thread be the first to finish
            return model(pieces, role, alone)

        def done(_):
            failed.set()
            raise OSError("nobody reads this")

        with pytest.raises(OSError, match="nobody reads this"):
            queue(forward, budget=300).run([[np.full(200, n) for n in range(6)]], Role.DOCUMENT, done)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_starts_anew():
    code = """
import os, sys, threading, numpy as np
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.batch_queue import BatchQueue

entered, opened = threading.Event(), threading.Event()
def forward(pieces, role, alone):
    if threading.current_thread() is not threading.main_thread() and os.getpid() == parent:
        entered.set(); opened.wait()
    return np.zeros((len(pieces), 3))
parent = os.getpid()
runs = BatchQueue(forward, width=3, lanes=1, budget=600)
thread = threading.Thread(target=runs.run, args=([[np.ones(3, dtype=int)]], Role.QUERY)); thread.start()
entered.wait()
child = os.fork()
if child == 0:
    os._exit(len(runs.run([[np.ones(3, dtype=int)] * 5], Role.QUERY)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
opened.set(); thread.join()
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "5"


class TestTheEnd:
    """What a thread of ours holds or does when the interpreter ends aborts the process."""

    def test_nothing_of_the_model_is_held_once_a_text_is_reported(self):
        model = Model()
        given, alive = [], []

        def forward(pieces, role, alone):
            vectors = model(pieces, role, alone)
            given.append(weakref.ref(vectors))
            return vectors

        def done(_):
            alive.append(sum(one() is not None for one in given))

        queue(forward, lanes=1, budget=300).run([[np.full(200, n) for n in range(6)]], Role.DOCUMENT, done)
        assert alive == [0] * len(given)

    def test_the_process_ends_in_the_middle_of_a_call_of_a_daemon(self):
        code = """
import itertools, threading, numpy as np
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.batch_queue import BatchQueue

helped = threading.Event()
def forward(pieces, role, alone):
    if threading.current_thread().name == "rag-embeddings":
        helped.set()
    return np.zeros((len(pieces), 3))
runs = BatchQueue(forward, width=3, lanes=2, budget=300)
slices = ([np.ones(200, dtype=int)] * 6 for _ in itertools.count())
threading.Thread(target=runs.run, args=(slices, Role.DOCUMENT), daemon=True).start()
assert helped.wait(60)
assert not any(thread.daemon for thread in threading.enumerate() if thread.name == "rag-embeddings")
"""
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert (found.returncode, found.stderr) == (0, "")
