"""A Chroma server on a free port, for as long as a test needs it."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from rag_embeddings.errors import StoreError
from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.chroma_client import ChromaServer

_SECONDS = 60


@contextmanager
def chroma_server(path):
    """Run ``chroma run`` over a directory until the end of the block."""
    with chroma_process(path) as (_, server):
        yield server


@contextmanager
def chroma_process(path):
    """Run ``chroma run`` as `chroma_server` does, and give its process as well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    beside = Path(sys.executable).parent / "chroma"
    program = str(beside) if beside.exists() else shutil.which("chroma")
    assert program, "chromadb is installed without its program"
    with (path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--path", str(path / "data"), "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        yield process, answering(process, ChromaServer("127.0.0.1", port))
    finally:
        process.terminate()
        process.wait(timeout=_SECONDS)


def answering(process, server):
    """Return a server when it answers."""
    end = time.monotonic() + _SECONDS
    while True:
        try:
            ChromaStore(server, "is-it-there").close()
        except StoreError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < end, f"the server did not answer for {_SECONDS} s"
            time.sleep(0.05)
        else:
            return server
