"""A process killed at every step, then run again: nothing is lost, nothing is double, little is done twice."""

import os
import signal
from collections import Counter

import pytest

from index_corpus import SLICE, Recording, check_index, corpus, document, in_child, pipeline
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing import faults
from rag_embeddings.text import Document

COUNT = 5
FIRST = corpus(0, COUNT)
SECOND = [document(0, 1), document(1, 1), *FIRST[2:]]
THIRD = [*SECOND[:2], Document(SECOND[2].text, SECOND[2].id, {"other": "metadata"}), *SECOND[3:]]
LAST = THIRD[:4]
STEPS = {
    "add": lambda indexer: indexer.upsert(FIRST),
    "change": lambda indexer: indexer.upsert(SECOND),
    "change metadata": lambda indexer: indexer.upsert(THIRD),
    "delete": lambda indexer: indexer.delete(["doc-4"]),
}


def story(path, log="", hit=0):
    """Everything an indexer does; killed at the hit-th failpoint."""
    visits = 0

    def visit(_name):
        nonlocal visits
        visits += 1
        if visits == hit:
            os.kill(os.getpid(), signal.SIGKILL)

    made_by = pipeline(Recording(log)) if log else pipeline()
    with IndexDirectory.open(path, create=True) as directory, faults.watched(visit):
        indexer = Indexer(directory, made_by, slice_size=SLICE)
        for step in STEPS.values():
            step(indexer)


def verify(path):
    with IndexDirectory.open(path) as directory:
        check_index(directory, LAST, pipeline())


def visited():
    """Names of the failpoints in the order in which the story passes them; the steps are the same in memory."""
    names = []
    with faults.watched(names.append), IndexDirectory.open(None) as directory:
        indexer = Indexer(directory, pipeline(), slice_size=SLICE)
        for step in STEPS.values():
            step(indexer)
    return names


HITS = visited()


def test_the_story_passes_every_failpoint():
    assert set(HITS) == {
        "index.after_pending",
        "index.after_encode",
        "index.after_slice",
        "index.after_refresh",
        "index.after_sentences",
        "index.after_chunks",
        "index.after_commit",
        "index.after_kill",
        "index.after_sentences_deleted",
        "index.after_chunks_deleted",
        "index.after_forget",
    }


def texts_of(documents):
    """How often each text is encoded if nothing is encoded twice: units with other ids may have the same text."""
    units = {}
    for item in documents:
        version = pipeline().version(item, "name")
        units |= {chunk.id: chunk.text for chunk in version.chunks}
        units |= {unit.id: unit.span.of(item.text) for group in version.sentences for unit in group}
    return Counter(text.replace("\n", " ") for text in units.values())


def run_again(path, log):
    """What a user does after a crash: the same command, with the corpus as it is now."""
    with IndexDirectory.open(path, create=True) as directory:
        indexer = Indexer(directory, pipeline(Recording(log)), slice_size=SLICE)
        indexer.upsert(LAST)
        indexer.prune([item.id for item in LAST])
    verify(path)


# The first and the last time that each failpoint is passed in each step would do; all of them are for the slow run.
SOME = sorted({HITS.index(name) + 1 for name in HITS} | {len(HITS) - HITS[::-1].index(name) for name in HITS})
ALL = [hit if hit in SOME else pytest.param(hit, marks=pytest.mark.slow) for hit in range(1, len(HITS) + 1)]


@pytest.mark.parametrize("hit", ALL)
def test_killed_and_run_again(hit, tmp_path):
    path, log = tmp_path / "index", tmp_path / "encoded"
    assert in_child(story, path, log, hit) == -signal.SIGKILL
    assert in_child(run_again, path, log) == 0
    encoded = Counter(log.read_text(encoding="utf-8").splitlines())
    again = encoded - texts_of({(item.id, item.digest): item for item in [*FIRST, *SECOND]}.values())
    assert again.total() <= SLICE, f"{again.total()} texts were encoded again"


@pytest.mark.parametrize("name", sorted(set(HITS)))
def test_an_error_at_a_failpoint_and_the_same_call_again(name):
    """As above with an exception instead of a kill, in one process: the next call finishes the work."""
    made_by = pipeline()
    with IndexDirectory.open(None) as directory:
        indexer = Indexer(directory, made_by, slice_size=SLICE)
        for step in STEPS.values():
            try:
                with faults.armed(name, KeyboardInterrupt(), hit=2 if name.endswith(("encode", "slice")) else 1):
                    step(indexer)
            except KeyboardInterrupt:
                step(indexer)
        check_index(directory, LAST, made_by)


@pytest.mark.parametrize("second", ["index.after_pending", "index.after_sentences", "index.after_chunks"])
@pytest.mark.parametrize("first", ["index.after_slice", "index.after_sentences", "index.after_chunks"])
def test_interrupted_wanted_back_and_interrupted_again(first, second):
    """Another context changes vectors and no ids: what it overwrote is made good, however often that is cut off."""
    made_by, other = pipeline(), pipeline(context="Another context.")
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert(FIRST)
        for attempt, name in ((other, first), (made_by, second)):
            with faults.armed(name, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
                Indexer(directory, attempt, slice_size=SLICE).upsert(FIRST)
        Indexer(directory, made_by).upsert(FIRST)
        check_index(directory, FIRST, made_by)


def visit_three(reached):
    os.environ[faults.VARIABLE] = "b:2"
    with faults.watched(faults._from_environment()):
        faults.failpoint("b")
        faults.failpoint("a")
        reached.touch()
        faults.failpoint("b")


def test_an_armed_environment_variable_kills(tmp_path):
    reached = tmp_path / "reached"

    assert in_child(visit_three, reached) == -signal.SIGKILL
    assert reached.exists()
