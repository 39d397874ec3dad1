"""Batches and retries for encoders that call a service: right order, whole replies, patience with limits."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rag_embeddings.encode.aspects import InnerAspects
from rag_embeddings.encode.base import check_texts, validated
from rag_embeddings.errors import BudgetError, RemoteEncoderError, VectorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_embeddings.encode.base import Encoder, Role, Vectors
    from rag_embeddings.encode.profile import Profile

T = TypeVar("T")

_NEVER = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}  # server errors that stay
_BROKEN = 1  # how often a reply may be broken before that is an error
_SHOWN = 60  # characters of a text in a message
# Errors without a status that may pass, by the names their libraries give them; no library is imported for it.
_PASSING = frozenset(
    {
        "APIConnectionError",
        "APITimeoutError",
        "ChunkedEncodingError",
        "ClientConnectionError",
        "ConnectError",
        "ConnectTimeoutError",
        "ConnectionError",
        "EndpointConnectionError",
        "IncompleteRead",
        "NetworkError",
        "ProtocolError",
        "ReadTimeoutError",
        "RemoteProtocolError",
        "ServerDisconnectedError",
        "ServiceUnavailable",
        "Timeout",
        "TimeoutException",
    }
)


def estimated_tokens(texts: Sequence[str]) -> list[int]:
    """Estimate tokens without a tokenizer, on the high side for most scripts and models.

    A token for three ASCII characters, two for three bytes of UTF-8 beyond ASCII (two for a Chinese character).
    """
    found = []
    for text in texts:
        size = len(text.encode("utf-8", "surrogatepass"))
        ascii_only = size if text.isascii() else len(text.encode("ascii", "ignore"))
        found.append(ascii_only // 3 + 2 * (size - ascii_only) // 3 + 1)
    return found


@dataclass(frozen=True)
class Batches:
    """How many texts go into one request.

    Attributes:
        inputs: Most texts in a request.
        tokens: Most tokens in a request, by ``count``; a single text over it goes alone.
        count: Counts the tokens of texts: `TokenCounter.count` where the tokenizer is known, an estimate otherwise.

    Raises:
        BudgetError: If ``inputs`` or ``tokens`` is less than 1.
    """

    inputs: int = 2048
    tokens: int = 200_000
    count: Callable[[Sequence[str]], Sequence[int]] = estimated_tokens

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.tokens < 1:
            raise BudgetError(f"a batch takes at least 1 text and 1 token, got {self.inputs} and {self.tokens}")

    def of(self, texts: Sequence[str]) -> list[range]:
        """Cut texts into batches: ranges of their indexes, in order, covering each once, none empty."""
        found = []
        start = used = 0
        for index, tokens in enumerate(self.count(texts)):
            if index > start and (index - start == self.inputs or used + tokens > self.tokens):
                found.append(range(start, index))
                start, used = index, 0
            used += tokens
        if len(texts) > start:
            found.append(range(start, len(texts)))
        return found


def retrying(
    call: Callable[[], T],
    *,
    attempts: int = 6,
    base: float = 0.5,
    longest: float = 60.0,
    patience: float = 600.0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
    rng: random.Random | None = None,
) -> T:
    """Call again what failed for a reason that may pass.

    That is status 408, 429 or 5xx, a timeout, a broken connection, and once, without waiting, a broken reply. Nothing
    else is: 400, 401, 403, 404 and 413 come back at once. Between attempts it waits a random time between 0 and
    ``base`` * 2^n seconds ("full jitter"), after the time a Retry-After header asks for.

    Args:
        call: What to call.
        attempts: Most calls in all; 1 never retries.
        base: Seconds.
        longest: Most seconds of the random wait.
        patience: Most seconds of waiting in all; a Retry-After beyond it is not waited for.
        clock: Gives the time in seconds since 1970, to read a Retry-After date.
        sleep: Waits so many seconds.
        rng: Source of the random waits.

    Returns:
        What ``call`` returned.

    Raises:
        BudgetError: If ``attempts`` is less than 1.
        Exception: What ``call`` raised last.
    """
    if attempts < 1:
        raise BudgetError(f"attempts must be at least 1, got {attempts}")
    chance = rng or random.Random()  # noqa: S311 - to spread requests, not to hide anything
    waited, broken = 0.0, 0
    for attempt in range(attempts - 1):
        try:
            return call()
        except Exception as error:
            if is_broken_reply(error) and broken < _BROKEN:
                broken += 1
                continue
            if not may_pass(error):
                raise
            asked = retry_after(error, clock())
            longer = min(longest, base * 2**attempt)
            wait = chance.uniform(0, longer) if asked is None else asked + chance.uniform(0, base)
            if waited + wait > patience:
                raise
        sleep(wait)
        waited += wait
    return call()


def may_pass(error: BaseException) -> bool:
    """Return whether an error of a service may be gone at the next attempt."""
    status = status_of(error)
    if status is not None:
        server = status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NEVER
        return server or status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}
    return any(
        isinstance(link, TimeoutError | ConnectionError) or any(cls.__name__ in _PASSING for cls in type(link).__mro__)
        for link in _links(error)
    )


def is_broken_reply(error: BaseException) -> bool:
    """Return whether a service answered, but with something that cannot be used."""
    return isinstance(error, VectorError | JSONDecodeError)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status behind an error of whatever library, None if there is none.

    Looks at ``status_code``, ``http_status``, ``status`` and ``code`` of the error and of its ``response``, and of the
    errors it was raised from.
    """
    for link in _links(error):
        response = getattr(link, "response", None)
        for holder in (link, response):
            for name in ("status_code", "http_status", "status", "code"):
                status = _status(getattr(holder, name, None))
                if status is not None:
                    return status
        if isinstance(response, Mapping):  # botocore
            metadata = response.get("ResponseMetadata")
            status = _status(metadata.get("HTTPStatusCode")) if isinstance(metadata, Mapping) else None
            if status is not None:
                return status
    return None


def retry_after(error: BaseException, now: float) -> float | None:
    """Return the seconds that the service asks to wait, None if it does not say.

    Args:
        error: The error; its headers, or those of its ``response``, may hold Retry-After in seconds or as a date.
        now: The time, in seconds since 1970.
    """
    for link in _links(error):
        for holder in (getattr(link, "response", None), link):
            headers = getattr(holder, "headers", None)
            if headers is not None and callable(getattr(headers, "items", None)):
                value = next((text for name, text in headers.items() if str(name).lower() == "retry-after"), None)
                seconds = None if value is None else _seconds(str(value).strip(), now)
                if seconds is not None:
                    return seconds
    return None


def in_order(reply: Any, texts: Sequence[str]) -> Any:
    """Put a reply into the order of the texts, where its items say which text they belong to.

    Args:
        reply: A matrix, a list of vectors, or items with ``index`` and ``embedding``, as attributes or in mappings.
        texts: What was sent.

    Returns:
        The matrix, or the vectors in order.

    Raises:
        VectorError: If indexes are missing, doubled or out of range.
    """
    if not isinstance(reply, Sequence) or not reply or _field(reply[0], "index") is None:
        return reply
    by_index = {_field(item, "index"): _field(item, "embedding") for item in reply}
    if len(by_index) != len(reply) or by_index.keys() != set(range(len(texts))):
        missing = next((index for index in range(len(texts)) if index not in by_index), None)
        named = "" if missing is None else f"; text {missing} has none and begins {texts[missing][:_SHOWN]!r}"
        raise VectorError(f"{len(texts)} texts were sent and {len(reply)} indexed vectors came back{named}")
    return [by_index[index] for index in range(len(texts))]


def in_batches(
    send: Callable[[list[str]], Any], texts: Sequence[str], batches: Batches, dimensions: int | None, **retries: Any
) -> Vectors:
    """Send texts in batches, try again what may pass, check every reply, and put all in order.

    A batch that is too large for the service (413) is halved.

    Args:
        send: Texts to vectors, or to items that say which text they belong to; see `in_order`.
        texts: At least one text.
        batches: How many texts go into one request.
        dimensions: The expected width, None when it is not known yet.
        **retries: See `retrying`.

    Returns:
        float32 of shape (len(texts), dim).

    Raises:
        RemoteEncoderError: If the service failed for good. Says which texts.
        VectorError: If a reply was not what must come back, twice. Says which texts.
        Exception: What ``send`` raised, if it was not about the service.
    """
    waiting = deque(batches.of(texts))
    found: list[Vectors] = []
    while waiting:
        batch = waiting.popleft()
        try:
            found.append(_one_batch(send, texts, batch, dimensions, retries))
        except RemoteEncoderError as error:
            if len(batch) == 1 or status_of(error) != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            waiting.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
        else:
            dimensions = found[-1].shape[1]
    return np.concatenate(found)


def _one_batch(
    send: Callable[[list[str]], Any],
    texts: Sequence[str],
    batch: range,
    dimensions: int | None,
    retries: dict[str, Any],
) -> Vectors:
    some = [texts[index] for index in batch]
    calls = 0

    def call() -> Vectors:
        nonlocal calls
        calls += 1
        return validated(in_order(send(some), some), some, dimensions)

    which = f"texts {batch.start} to {batch.stop - 1} of {len(texts)}, the first begins {some[0][:_SHOWN]!r}"
    try:
        return retrying(call, **retries)
    except VectorError as error:
        raise VectorError(f"{error} ({which})") from error
    except Exception as error:
        status = status_of(error)
        if status is None and not may_pass(error) and not is_broken_reply(error):  # not the service's: a mistake
            error.add_note(f"while encoding {which}")
            raise
        reason = type(error).__name__ if status is None else f"{type(error).__name__}, status {status}"
        # What the service said is chained, not copied: it may hold what does not belong into a log.
        raise RemoteEncoderError(f"encoding failed ({reason}) at attempt {calls}: {which}") from error


class BatchedEncoder(InnerAspects):
    """An encoder that sends texts to the one inside in batches, tries again what may pass, and checks every reply.

    For an encoder of your own that calls a service; `rag_embeddings.encode.wrap.wrap` does the same for the embeddings
    of both frameworks.

    Args:
        encoder: Any encoder. Its `encode` may also return items that say which text they belong to; see `in_order`.
        batches: How many texts go into one request.
        **retries: ``attempts``, ``base``, ``longest``, ``patience``, ``clock``, ``sleep``, ``rng`` of `retrying`.
    """

    def __init__(self, encoder: Encoder, batches: Batches | None = None, **retries: Any) -> None:
        self.encoder = encoder
        self.batches = batches or Batches()
        self._retries = retries

    def __repr__(self) -> str:
        return f"BatchedEncoder({self.encoder!r})"

    @property
    def profile(self) -> Profile:
        """Everything that changes a vector."""
        return retrying(lambda: self.encoder.profile, **self._retries)  # may take a request

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the encoder inside."""
        return self.encoder.tokenizer

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts; see `rag_embeddings.encode.base.Encoder`.

        Raises:
            RemoteEncoderError: If a batch failed for good. Says which texts.
            VectorError: If a reply was not what must come back, twice. Says which texts.
        """
        check_texts(texts)
        if len(texts) == 0:
            return np.zeros((0, self.profile.dimensions), dtype=np.float32)
        return in_batches(lambda some: self.encoder.encode(some, role), texts, self.batches, None, **self._retries)


def _links(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error to what it was raised from."""
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        yield link
        link = link.__cause__


def _status(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:  # noqa: PLR2004 - HTTP errors
        return int(value)
    return None


def _seconds(value: str, now: float) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):  # neither of the two forms
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _field(item: Any, name: str) -> Any:
    if isinstance(item, Mapping):
        return item.get(name)
    # Lists and tuples have an ``index`` too: a method.
    return None if isinstance(item, Sequence | np.ndarray) else getattr(item, name, None)
