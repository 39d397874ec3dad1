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
        timeout: Seconds to wait for a connection, and for each answer. A server that is silent for longer is an error.

    Raises:
        ValueError: If the timeout is not above 0.
    """

    host: str = "localhost"
    port: int = 8000
    ssl: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"the timeout must be above 0 seconds, got {self.timeout}")


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
        return _connected(path, chromadb, settings)
    try:
        return chromadb.PersistentClient(str(path), settings=settings)
    except (chromadb.errors.ChromaError, ValueError) as error:
        raise ChromaDamagedError(f"Chroma cannot open {str(path)!r}: {error}") from error


def _connected(server: ChromaServer, chromadb: Any, settings: Any) -> Any:
    """Return a client that waits for answers as long as the server's timeout. Chroma's own waits for ever.

    Its constructor does, too, before anything could be set; so the server is first asked whether it answers at all.
    """
    httpx = require("httpx", "chroma")
    url = require("chromadb.api.fastapi", "chroma").FastAPI.resolve_url(
        chroma_server_host=server.host,
        chroma_server_http_port=server.port,
        chroma_server_ssl_enabled=server.ssl,
        default_api_path=settings.chroma_server_api_default_path,
    )
    try:
        httpx.get(f"{url}/heartbeat", headers=dict(server.headers), timeout=server.timeout)
        client = chromadb.HttpClient(
            server.host, server.port, ssl=server.ssl, headers=dict(server.headers), settings=settings
        )
    except (ValueError, httpx.HTTPError) as error:
        raise StoreError(f"no Chroma server answers at {server.host}:{server.port}: {error}") from error
    for session in _sessions(client):
        session.timeout = server.timeout
    return client


def disconnect(client: Any) -> None:
    """Close a client, and its connections to a server, which Chroma leaves open."""
    sessions = _sessions(client)
    client.close()
    for session in sessions:
        session.close()


def _sessions(client: Any) -> list[Any]:
    """Return what a client speaks to a server through; nothing where it uses a directory."""
    parts = (client._server, client._admin_client._server)  # noqa: SLF001 - there is no public way
    return [part._session for part in parts if hasattr(part, "_session")]  # noqa: SLF001


def names_function(value: Any) -> bool:
    """Whether a configuration names an embedding function that Chroma would build."""
    if isinstance(value, dict):
        function = value.get("embedding_function")
        if isinstance(function, dict) and function.get("type") not in _NO_FUNCTION:
            return True
        return any(map(names_function, value.values()))
    return isinstance(value, list) and any(map(names_function, value))
