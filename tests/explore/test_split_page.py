"""The page of a split: everything in it, nothing from outside, hostile text harmless; in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings

from hostile_texts import texts
from rag_embeddings.explore.split_page import split_page
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.explain import explain
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.split.topics import TopicSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

ENCODER = DeterministicEncoder(dimensions=64)
PROSE = " ".join(f"Sentence number {n} of this text is about {'mills' if n // 6 % 2 else 'law'}." for n in range(60))
EVIL = '</span><script>window.hacked=1</script><img src=x onerror="window.hacked=1"> & <b onclick=\'x\'>"quoted"</b> '


class Seen(HTMLParser):
    """Text of the article, elements, attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.article, self._inside = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._inside |= tag == "article"

    def handle_endtag(self, tag):
        self._inside &= tag != "article"

    def handle_data(self, data):
        self.article += data if self._inside else ""


def bollinger():
    return BollingerSplitter(ENCODER, 300, tokenizer=len, glue=1.0)


@settings(max_examples=80, deadline=None)
@given(text=texts)
def test_the_whole_text_is_shown_and_nothing_of_it_is_markup(text):
    for splitter in (SlidingWindowSplitter(20, tokenizer=len), TopicSplitter(ENCODER, 20, tokenizer=len)):
        page = split_page(explain(splitter, Document(EVIL + text)), title=text[:20] + EVIL)
        page.encode()
        seen = Seen(page)
        shown = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", (EVIL + text).replace("\r\n", "\n"))
        assert seen.article == shown
        assert seen.tags.count("script") == 1
        assert not {"img", "link", "iframe"} & set(seen.tags)
        assert not [name for name, _ in seen.attributes if name.startswith("on") or name in {"src", "href"}]


def test_every_chunk_and_boundary_is_there():
    found = explain(bollinger(), Document(PROSE))
    page = split_page(found, "prose")
    seen = Seen(page)
    chunks = {value for name, value in seen.attributes if name == "data-c"}
    assert chunks == {str(number) for number in range(len(found.chunks))}
    boundaries = [value for name, value in seen.attributes if name == "data-b"]
    assert sorted(boundaries, key=int) == sorted([str(n) for n in range(len(found.at))] * 2, key=int)
    assert page.count('class="cut"') == found.cuts.sum() > 0
    for name in ("similarity", "middle", "lower", "upper"):
        assert f'<path class="{name}"' in page
    for number, tokens in enumerate(found.tokens.tolist(), 1):
        assert f"<strong>{number}</strong> · {tokens} tokens" in page


def test_heading_paths_are_shown_and_empty_documents_too():
    document = Document("Body.")

    class Headed:
        counter = SlidingWindowSplitter(9, tokenizer=len).counter

        def split(self, given):
            return [Chunk(given, (Span(0, 5),), headings=("Part <1>", "Detail"))]

        def settings(self):
            return {}

    assert "Part &lt;1&gt; › Detail" in split_page(explain(Headed(), document), "x")
    assert "0 chunks" in split_page(explain(bollinger(), Document("")), "empty")
    assert "no series" in split_page(explain(SlidingWindowSplitter(9, tokenizer=len), Document(PROSE)), "x")


def test_a_browser_shows_chunks_and_curve_and_links_them(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser_path is None:
        pytest.skip("needs Chromium")
    text = PROSE + "\n\n" + EVIL + PROSE
    found = explain(bollinger(), Document(text))
    file = tmp_path / "page.html"
    file.write_text(split_page(found, EVIL), encoding="utf-8")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        problems, requests = [], []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        assert page.evaluate("window.hacked") is None
        assert page.locator("article").inner_text().split() == text.split()
        assert page.locator("li").count() == len(found.chunks)
        for number in range(len(found.chunks)):
            assert page.locator(f'article span[data-c="{number}"]').first.bounding_box()["width"] > 0
        curve = page.locator("path.similarity").bounding_box()
        assert curve["width"] > 500
        assert curve["height"] > 50
        page.locator("li").nth(1).hover()
        assert page.locator('article span[data-c="1"].on').count() > 0
        assert page.locator('rect[data-c="1"].on').count() > 0
        assert page.locator('article span[data-c="0"].on').count() == 0
        place = page.locator("rect.place").nth(5)
        owner = place.get_attribute("data-c")
        place.hover()
        assert page.locator(f'article span[data-c="{owner}"].on').count() > 0
        assert page.locator('article i[data-b="5"].on').count() == 1
        picture = page.screenshot(path=tmp_path / "page.png")
        page.locator("path.similarity").evaluate("element => element.remove()")
        assert page.screenshot() != picture  # the curve is on the picture
        browser.close()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert problems == []
    assert requests == [file.as_uri()]
