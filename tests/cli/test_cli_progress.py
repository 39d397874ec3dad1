"""The meter behind the progress bar: it only rises, ends full, and moves inside a long document."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rag_embeddings.cli.progress import Meter
from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.testing.encoder import DeterministicEncoder


def test_it_moves_within_one_document(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 1000)
    with Meter([path], visible=False) as meter:
        encoder = meter.watch(DeterministicEncoder())
        assert isinstance(encoder, Encoder)
        meter.add(path)
        encoder.encode(["x" * 500], Role.DOCUMENT)
        assert meter.completed == 250
        encoder.encode(["x" * 9000], Role.DOCUMENT)
        assert meter.completed == 1000
        meter.documents_done(1)
        assert meter.completed == 1000


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 500)), max_size=12))
def test_it_only_rises_and_ends_full(tmp_path_factory, files) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for number, (size, _, _) in enumerate(files):
        paths.append(folder / str(number))
        paths[-1].write_bytes(b"x" * size)
    seen = []
    with Meter(paths, visible=False) as meter:
        done = 0
        for path, (_, readable, encoded) in zip(paths, files, strict=True):
            if readable:
                meter.add(path)
                meter.encoded(["y" * encoded])
                seen.append(meter.completed)
                done += 1
                meter.documents_done(done, None)
            else:
                meter.skip(path)
            seen.append(meter.completed)
        assert seen == sorted(seen)
        assert meter.completed == sum(size for size, _, _ in files)
