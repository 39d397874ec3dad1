"""How a Chroma directory or server is reached."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import ChromaDamagedError, StoreError, require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "chroma.sqlite3"
_NO_FUNCTION = ("legacy", "unknown")  # how Chroma spells that there is none

# Chroma's threads and SQLite's locks do not fork along: a child of a process that has used Chroma hangs now and then.
_used_in_process: int | None = None


@dataclass(frozen=True, slots=True)
class ChromaServer:
    """Where a Chroma server listens, started for example by ``chroma run --path DIR --port 8000``.

    Attributes:
        host: Name or address.
        port: Number of the port.
        ssl: Whether to use HTTPS.
        headers: Sent with every request, for example a token; not shown in ``repr``.
    """

    host: str = "localhost"
    port: int = 8000
    ssl: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def refuse_fork() -> None:
    """Refuse to go on in a child that was forked from a process that has used Chroma."""
    global _used_in_process  # noqa: PLW0603 - Chroma's state is the process's, too
    _used_in_process = _used_in_process or os.getpid()
    if _used_in_process != os.getpid():
        raise StoreError(
            "Chroma was used in this process before it was forked and would hang in the child; "
            "start child processes with the method 'spawn' or 'forkserver', or open the index only in the child"
        )


def connect(path: str | Path | ChromaServer) -> Any:
    """Return a client of a directory, or of a server, with telemetry off.

    Raises:
        ChromaDamagedError: If Chroma cannot read its files.
        StoreError: If no server answers.
    """
    chromadb = require("chromadb", "chroma")
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    if isinstance(path, ChromaServer):
        try:
            return chromadb.HttpClient(
                path.host, path.port, ssl=path.ssl, headers=dict(path.headers), settings=settings
            )
        except ValueError as error:
            raise StoreError(f"no Chroma server answers at {path.host}:{path.port}: {error}") from error
    try:
        return chromadb.PersistentClient(str(path), settings=settings)
    except (chromadb.errors.ChromaError, ValueError) as error:
        raise ChromaDamagedError(f"Chroma cannot open {str(path)!r}: {error}") from error


def disconnect(client: Any) -> None:
    """Close a client, and its connections to a server, which Chroma leaves open."""
    parts = (client._server, client._admin_client._server)  # noqa: SLF001 - there is no public way
    client.close()
    for part in parts:
        if hasattr(part, "_session"):
            part._session.close()  # noqa: SLF001


def names_function(value: Any) -> bool:
    """Whether a configuration names an embedding function that Chroma would build."""
    if isinstance(value, dict):
        function = value.get("embedding_function")
        if isinstance(function, dict) and function.get("type") not in _NO_FUNCTION:
            return True
        return any(map(names_function, value.values()))
    return isinstance(value, list) and any(map(names_function, value))
