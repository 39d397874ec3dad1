"""Failpoints: named places in the code where a test makes the process fail.

`failpoint` does nothing unless a test armed it, in this process with `armed`, or in a subprocess by the environment
variable ``RAG_EMBEDDINGS_FAILPOINT`` (``"index.after_encode:3"`` kills the process the third time it gets there,
``"*:7"`` at the seventh failpoint of any name). This module is imported by the core, so it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "RAG_EMBEDDINGS_FAILPOINT"


def failpoint(name: str) -> None:
    """Fail here if a test said so.

    Args:
        name: Name of the place, ``"room.after_step"``.
    """
    if _hook is not None:
        _hook(name)


@contextmanager
def armed(name: str, error: BaseException, hit: int = 1) -> Iterator[None]:
    """Raise an error at a failpoint of this process.

    Args:
        name: Name of the failpoint, ``"*"`` for any.
        error: What to raise.
        hit: At which visit to raise it, from 1. It is raised once.
    """

    def fail() -> None:
        raise error

    with _hooked(_at(name, hit, fail)):
        yield


@contextmanager
def watched(visit: Callable[[str], None]) -> Iterator[None]:
    """Call a function with the name of each failpoint that this process passes."""
    with _hooked(visit):
        yield


@contextmanager
def _hooked(hook: Callable[[str], None]) -> Iterator[None]:
    global _hook  # noqa: PLW0603 - a failpoint must cost one comparison when nothing is armed
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _at(name: str, hit: int, act: Callable[[], None]) -> Callable[[str], None]:
    left = hit

    def hook(visited: str) -> None:
        nonlocal left
        if name in {"*", visited}:
            left -= 1
            if left == 0:
                act()

    return hook


def _die() -> None:
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)  # where there is no SIGKILL


def _from_environment() -> Callable[[str], None] | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    name, _, hit = text.rpartition(":")
    return _at(name, int(hit), _die)


_hook: Callable[[str], None] | None = _from_environment()
