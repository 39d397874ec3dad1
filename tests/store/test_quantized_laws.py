"""The quantized store against the plainest model of a store, exact and through its index."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.testing.store import check_store

SIMILARITIES = ["cosine", "dot", "euclidean"]
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def few(examples, steps):
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking on a disk takes minutes
        suppress_health_check=QUIET,
    )


class OnDisk:
    """Makes stores in fresh directories, and opens them again."""

    def __init__(self, root, **options):
        self.root, self.options = root, options

    def make(self):
        return QuantizedStore(Path(tempfile.mkdtemp(dir=self.root)), **self.options)

    def reopen(self, store):
        store.close()
        return QuantizedStore(store.path, **self.options)


@pytest.mark.parametrize("build_after", [3, 20_000], ids=["index", "exact"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_quantized_store(similarity, build_after, tmp_path):
    disk = OnDisk(tmp_path, similarity=similarity, build_after=build_after)
    check_store(disk.make, reopen=disk.reopen, settings=few(6, 30))


@pytest.mark.slow
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_quantized_store_at_length(similarity, tmp_path):
    disk = OnDisk(tmp_path, similarity=similarity, build_after=4)
    check_store(disk.make, reopen=disk.reopen, settings=few(500 if similarity == "cosine" else 100, 50))
