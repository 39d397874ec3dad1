"""Batches and retries: order, whole replies, limits of patience; a fake service, a fake clock, no sleeping."""

import asyncio
import json
import logging
import random
import traceback
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.retry import (
    BatchedEncoder,
    Batches,
    estimated_tokens,
    in_order,
    may_pass,
    retry_after,
    retrying,
    status_of,
)
from rag_embeddings.errors import BudgetError, RemoteEncoderError, VectorError
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.encoder_laws import check_encoder

KEY = "sk-canary-0123456789"
NOW = 1_700_000_000.0


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def time(self) -> float:
        return NOW + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)

    @property
    def settings(self):
        return {"clock": self.time, "sleep": self.sleep, "rng": random.Random(0)}


class Response:
    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.headers = headers or {}
        self.request = {"authorization": f"Bearer {KEY}"}

    def __bool__(self) -> bool:  # as in requests: false for an error
        return False


class StatusError(Exception):
    """As requests, httpx, openai and cohere raise it."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__("the service refused")
        self.response = Response(status, headers)


class Service(DeterministicEncoder):
    """A service behind a scripted network: each call takes the next fault, then all goes well."""

    def __init__(self, faults=(), largest: int = 10**9) -> None:
        super().__init__()
        self.api_key = KEY
        self.faults = list(faults)
        self.largest = largest
        self.requests: list[list[str]] = []

    def __repr__(self) -> str:
        return "Service()"

    def encode(self, texts, role):
        self.requests.append(list(texts))
        if len(texts) > self.largest:
            raise StatusError(413)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            raise fault
        vectors = super().encode(texts, role)
        return vectors if fault is None else fault(vectors)


def expected(texts, role=Role.DOCUMENT):
    return DeterministicEncoder().encode(texts, role).tobytes()


def shuffled(vectors):
    """A reply whose items say where they belong, out of order."""
    items = [{"index": index, "embedding": vector.tolist()} for index, vector in enumerate(vectors)]
    random.Random(3).shuffle(items)
    return items


def shuffled_objects(vectors):
    class Item:
        def __init__(self, index, embedding) -> None:
            self.index = index
            self.embedding = embedding

    return [Item(item["index"], item["embedding"]) for item in shuffled(vectors)]


def not_a_number(vectors):
    vectors[len(vectors) // 2, 3] = np.nan
    return vectors


PASSING = {
    "429 in seconds": lambda: StatusError(429, {"Retry-After": "7"}),
    "429 with a date": lambda: StatusError(
        429, {"retry-after": format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True)}
    ),
    "429 bare": lambda: StatusError(429),
    "429 nonsense": lambda: StatusError(429, {"Retry-After": "soon"}),
    "500": lambda: StatusError(500),
    "502": lambda: StatusError(502),
    "503": lambda: StatusError(503, {"Retry-After": "0.5"}),
    "timeout": lambda: TimeoutError("read timed out"),
    "reset": lambda: ConnectionResetError(104, "reset by peer"),
    "shuffled": lambda: shuffled,
    "shuffled objects": lambda: shuffled_objects,
}
BROKEN = {
    "truncated": lambda: json.JSONDecodeError("Unterminated string", '{"data": [', 10),
    "one fewer": lambda: lambda vectors: vectors[:-1],
    "one more": lambda: lambda vectors: np.concatenate([vectors, vectors[:1]]),
    "not a number": lambda: not_a_number,
    "zeros": lambda: lambda vectors: vectors * 0,
    "index twice": lambda: lambda vectors: [{"index": 0, "embedding": list(v)} for v in vectors],
    "index missing": lambda: lambda vectors: shuffled(vectors)[:-1],
}
REFUSED = {str(status): lambda status=status: StatusError(status) for status in (400, 401, 403, 404, 422, 501)}


# --- batches -----------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=20)), st.integers(1, 10), st.integers(1, 30))
def test_batches_are_whole_in_order_and_within_both_limits(texts: list[str], inputs: int, tokens: int) -> None:
    found = Batches(inputs, tokens, lambda some: [len(text) for text in some]).of(texts)
    assert [index for batch in found for index in batch] == list(range(len(texts)))
    for batch in found:
        assert 1 <= len(batch) <= inputs
        assert len(batch) == 1 or sum(len(texts[index]) for index in batch) <= tokens
    for before, after in pairwise(found):  # none could have taken one more
        full = len(before) == inputs
        assert full or sum(len(texts[index]) for index in [*before, after[0]]) > tokens


def test_the_limits_are_those_of_the_services_by_default() -> None:
    assert [len(batch) for batch in Batches().of(["word"] * 5000)] == [2048, 2048, 904]
    long = "word " * 12_000  # 20,000 tokens by the estimate
    assert {len(batch) for batch in Batches().of([long] * 27)} == {9}
    with pytest.raises(BudgetError):
        Batches(inputs=0)
    with pytest.raises(BudgetError):
        Batches(tokens=0)


def test_the_estimate_is_on_the_high_side_and_takes_any_text() -> None:
    tiktoken = pytest.importorskip("tiktoken")
    count = tiktoken.get_encoding("cl100k_base")
    for text in ("The river rose slowly in the spring. ", "河水在春天慢慢上涨。", "Der Müller öffnete das Tor. "):
        assert estimated_tokens([text * 50])[0] >= len(count.encode(text * 50))
    assert estimated_tokens(["", "\ud800"]) == [1, 3]


def test_texts_go_in_batches() -> None:
    service = Service()
    encoder = BatchedEncoder(service, Batches(inputs=2))
    texts = ["a", "b", "c"]
    for role in Role:
        service.requests.clear()
        assert encoder.encode(texts, role).tobytes() == expected(texts, role)
        assert service.requests == [["a", "b"], ["c"]]


def test_the_laws_of_encoders_hold_through_batches() -> None:
    encoder = BatchedEncoder(DeterministicEncoder(query_prompt="query "), Batches(inputs=3))
    assert isinstance(encoder, Encoder)
    check_encoder(encoder)
    with pytest.raises(TypeError, match="list"):
        encoder.encode("text", Role.QUERY)


def test_batches_of_different_widths_are_an_error() -> None:
    service = Service([None, *[lambda vectors: vectors[:, :-1]] * 2])
    with pytest.raises(VectorError, match=r"64 dimensions were expected and 63.*'b'"):
        BatchedEncoder(service, Batches(inputs=1)).encode(["a", "b"], Role.DOCUMENT)


# --- one fault at a time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_passes_leaves_the_result_as_without_it(fault: str, at: int) -> None:
    clock = Clock()
    service = Service([None] * at + [PASSING[fault]()])
    texts = list("abcdef")
    encoder = BatchedEncoder(service, Batches(inputs=2), **clock.settings)
    assert encoder.encode(texts, Role.DOCUMENT).tobytes() == expected(texts)
    assert len(service.requests) == 3 + (0 if fault.startswith("shuffled") else 1)
    assert len(clock.slept) == len(service.requests) - 3


def test_a_broken_reply_is_not_waited_for() -> None:
    clock = Clock()
    service = Service([BROKEN["truncated"](), StatusError(500), BROKEN["one fewer"]()])
    with pytest.raises(VectorError, match="3 texts were sent"):
        BatchedEncoder(service, **clock.settings).encode(["a", "b", "c"], Role.DOCUMENT)
    assert len(service.requests) == 3
    assert len(clock.slept) == 1


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_reply_is_asked_for_again_once(fault: str) -> None:
    texts = list("abcdef")
    service = Service([BROKEN[fault]()])
    assert BatchedEncoder(service, **Clock().settings).encode(texts, Role.DOCUMENT).tobytes() == expected(texts)
    service = Service([BROKEN[fault](), BROKEN[fault]()])
    with pytest.raises((VectorError, RemoteEncoderError), match=r"'[a-f]'"):
        BatchedEncoder(service, **Clock().settings).encode(texts, Role.DOCUMENT)
    assert len(service.requests) == 2


@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_is_final_and_named(fault: str) -> None:
    clock = Clock()
    service = Service([None, REFUSED[fault]()])
    with pytest.raises(RemoteEncoderError, match=rf"status {fault}\) at attempt 1: texts 2 to 3 of 6.*'c'") as caught:
        BatchedEncoder(service, Batches(inputs=2), **clock.settings).encode(list("abcdef"), Role.DOCUMENT)
    assert isinstance(caught.value.__cause__, StatusError)
    assert len(service.requests) == 2
    assert clock.slept == []


def test_too_large_a_batch_is_halved_until_it_fits() -> None:
    clock = Clock()
    service = Service(largest=3)
    texts = [f"text {number}" for number in range(13)]
    found = BatchedEncoder(service, Batches(inputs=10), **clock.settings).encode(texts, Role.DOCUMENT)
    assert found.tobytes() == expected(texts)
    assert [len(request) for request in service.requests] == [10, 5, 2, 3, 5, 2, 3, 3]
    assert clock.slept == []


def test_a_text_too_large_by_itself_is_named() -> None:
    with pytest.raises(RemoteEncoderError, match=r"status 413.*text 0"):
        BatchedEncoder(Service(largest=0)).encode([f"text {number}" for number in range(4)], Role.DOCUMENT)


# --- waiting -----------------------------------------------------------------------------------------------------


def waits(faults, **settings):
    clock = Clock()
    script = list(faults)

    def call() -> str:
        if script:
            raise script.pop(0)
        return "done"

    found = retrying(call, **(clock.settings | settings))
    assert found == "done"
    return clock.slept


def test_retry_after_is_honoured_in_seconds_and_as_a_date() -> None:
    (seconds,) = waits([PASSING["429 in seconds"]()])
    assert 7 <= seconds <= 7.5
    (seconds,) = waits([PASSING["429 with a date"]()])
    assert 30 <= seconds <= 30.5
    first, second = waits([StatusError(429, {"Retry-After": "10"}), PASSING["429 with a date"]()])
    assert 10 <= first <= 10.5
    assert first + second == pytest.approx(30, abs=1)  # the date is a point in time
    past = format_datetime(datetime.fromtimestamp(NOW - 99, UTC), usegmt=True)
    for value in (past, "-5", "nan", "inf", "soon", ""):
        (seconds,) = waits([StatusError(429, {"Retry-After": value})])
        assert 0 <= seconds <= 0.5


def test_the_backoff_is_random_from_zero_and_doubles() -> None:
    runs = np.array([waits([StatusError(500)] * 5, rng=random.Random(seed)) for seed in range(400)])
    limits = 0.5 * 2.0 ** np.arange(5)
    assert (runs >= 0).all()
    assert (runs <= limits).all()
    assert (runs.min(axis=0) < 0.05 * limits).all()
    assert (runs.max(axis=0) > 0.95 * limits).all()
    assert np.allclose(runs.mean(axis=0), limits / 2, rtol=0.15)
    assert max(waits([StatusError(500)] * 29, attempts=30, longest=4)) <= 4


def test_attempts_and_patience_end() -> None:
    for attempts in (1, 2, 5):
        service = Service([StatusError(500)] * 100)
        with pytest.raises(RemoteEncoderError, match=f"status 500\\) at attempt {attempts}: texts 0 to 0 of 1"):
            BatchedEncoder(service, attempts=attempts, **Clock().settings).encode(["a"], Role.DOCUMENT)
        assert len(service.requests) == attempts
    with pytest.raises(BudgetError, match="attempts"):
        retrying(lambda: None, attempts=0)
    clock = Clock()
    service = Service([StatusError(429, {"Retry-After": "40"})] * 100)
    with pytest.raises(RemoteEncoderError, match="attempt 3"):
        BatchedEncoder(service, patience=100, **clock.settings).encode(["a"], Role.DOCUMENT)
    assert sum(clock.slept) <= 100
    with pytest.raises(StatusError):  # a day is not waited for
        waits([StatusError(429, {"Retry-After": "86400"})])


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
def test_an_interruption_is_never_retried(error: type[BaseException]) -> None:
    service = Service([error()])
    with pytest.raises(error):
        BatchedEncoder(service, **Clock().settings).encode(["a"], Role.DOCUMENT)
    assert len(service.requests) == 1


def test_asking_for_the_profile_is_retried_too() -> None:
    class Probing(DeterministicEncoder):
        asked = 0

        @property
        def profile(self):
            type(self).asked += 1
            if self.asked == 1:
                raise StatusError(503)
            return DeterministicEncoder().profile

        @profile.setter
        def profile(self, value) -> None:
            pass

    assert BatchedEncoder(Probing(), **Clock().settings).profile.dimensions == 64


# --- what libraries raise ----------------------------------------------------------------------------------------


def made(name: str, *bases: type, **attributes: object) -> Exception:
    error = type(name, bases or (Exception,), {})()
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (made("APIStatusError", status_code=429), 429),
        (made("HTTPError", code=503), 503),
        (made("Error", http_status=500), 500),
        (made("ClientResponseError", status=502), 502),
        (made("GoogleError", code=HTTPStatus.TOO_MANY_REQUESTS), 429),
        (made("HTTPStatusError", response=Response(404)), 404),
        (made("ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 400}}), 400),
        (made("ClientError", response={"ResponseMetadata": None}), None),
        (made("OpenAIError", code="rate_limit_exceeded", status_code=429), 429),
        (made("GrpcError", code=lambda: 14), None),
        (made("Odd", status_code=True, code=7), None),
        (ValueError("plain"), None),
    ],
    ids=repr,
)
def test_the_status_is_found_whatever_the_library(error: Exception, status: int | None) -> None:
    assert status_of(error) == status
    outer = RuntimeError("wrapped")
    outer.__cause__ = error
    assert status_of(outer) == status


def test_known_libraries_are_understood() -> None:
    httpx = pytest.importorskip("httpx")
    requests = pytest.importorskip("requests")
    request = httpx.Request("POST", "https://example.org")
    response = httpx.Response(429, headers={"retry-after": "3"}, request=request)
    error = httpx.HTTPStatusError("slow down", request=request, response=response)
    assert (status_of(error), retry_after(error, NOW), may_pass(error)) == (429, 3.0, True)
    for kind in (httpx.ConnectTimeout, httpx.ReadTimeout, httpx.ConnectError, httpx.ReadError):
        assert may_pass(kind("no"))
    assert may_pass(httpx.RemoteProtocolError("closed"))
    assert not may_pass(httpx.UnsupportedProtocol("gopher"))
    reply = requests.Response()
    reply.status_code = 503
    reply.headers["Retry-After"] = "4"
    error = requests.HTTPError(response=reply)
    assert (status_of(error), retry_after(error, NOW), may_pass(error)) == (503, 4.0, True)
    for kind in (requests.ConnectionError, requests.ReadTimeout, requests.exceptions.ChunkedEncodingError):
        assert may_pass(kind("no"))
    assert not may_pass(requests.exceptions.InvalidURL("no"))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x"), MemoryError(), BudgetError("x")])
def test_mistakes_are_not_retried(error: Exception) -> None:
    service = Service([error])
    with pytest.raises(type(error)) as caught:
        BatchedEncoder(service, **Clock().settings).encode(["a"], Role.DOCUMENT)
    assert len(service.requests) == 1
    assert caught.value is error
    assert error.__notes__ == ["while encoding texts 0 to 0 of 1, the first begins 'a'"]


def test_a_loop_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert status_of(first) is None


# --- order -------------------------------------------------------------------------------------------------------


@given(st.permutations(range(6)))
def test_indexed_replies_are_put_in_order(order: list[int]) -> None:
    items = [{"index": index, "embedding": [float(index)]} for index in order]
    assert in_order(items, list("abcdef")) == [[float(index)] for index in range(6)]
    with pytest.raises(VectorError, match=f"text {order[-1]} .*{'abcdef'[order[-1]]!r}"):
        in_order(items[:-1], list("abcdef"))


def test_plain_replies_are_taken_in_the_order_they_have() -> None:
    for reply in (np.ones((2, 3)), [[1.0], [2.0]], [(1.0,), (2.0,)], [], [np.ones(3)]):
        assert in_order(reply, ["a", "b"]) is reply


# --- schedules ---------------------------------------------------------------------------------------------------


def test_a_thousand_random_schedules_end_right_or_with_a_declared_error_and_store_nothing_wrong(tmp_path) -> None:
    rng = random.Random(11)
    kinds = {**PASSING, **BROKEN, **REFUSED, "fine": lambda: None}
    weights = [8] * len(PASSING) + [2] * len(BROKEN) + [1] * len(REFUSED) + [60]
    cache = VectorCache(tmp_path / "v.sqlite")
    stored = right = failed = 0
    for number in range(1000):
        texts = [f"schedule {number} text {index}" for index in range(20)]
        clock = Clock()
        faults = [kinds[kind]() for kind in rng.choices(list(kinds), weights, k=rng.randint(0, 20))]
        final = [fault for fault in faults if isinstance(fault, StatusError) and not may_pass(fault)]
        service = Service(faults, largest=rng.choice([5, 10**9]))
        encoder = BatchedEncoder(service, Batches(inputs=rng.randint(1, 20)), **(clock.settings | {"rng": rng}))
        found = error = None
        try:
            found = CachedEncoder(encoder, cache).encode(texts, Role.DOCUMENT)
        except (RemoteEncoderError, VectorError) as caught:
            error = caught
        if found is None:
            failed += 1
            assert f"schedule {number} text " in str(error)
            assert sum(fault not in service.faults for fault in final) <= 1  # the first refusal was the last call
        else:
            right += 1
            stored += len(texts)
            assert found.tobytes() == expected(texts)
            assert all(fault in service.faults for fault in final)
        assert cache.info().vectors == stored
        assert sum(clock.slept) <= 600 * len(service.requests)
    assert right > 300
    assert failed > 100
    cache.close()


@pytest.mark.parametrize("fault", [*BROKEN, *REFUSED, "429 in seconds", "timeout"])
def test_the_key_of_a_service_shows_up_nowhere(fault: str, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    kinds = {**PASSING, **BROKEN, **REFUSED}
    service = Service([kinds[fault]() for _ in range(50)])
    cached = CachedEncoder(BatchedEncoder(service, **Clock().settings), VectorCache(tmp_path / "v.sqlite"))
    with caplog.at_level(logging.DEBUG), pytest.raises((RemoteEncoderError, VectorError)) as caught:
        cached.encode(["a", "b"], Role.DOCUMENT)
    service.faults.clear()
    cached.encode(["a", "b"], Role.DOCUMENT)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(cached) + str(cached.cache.info())
    assert "canary" not in shown
    cached.cache.close()
    assert not any(KEY.encode() in item.read_bytes() for item in tmp_path.iterdir())
