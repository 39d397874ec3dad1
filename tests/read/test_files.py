"""One door for every format."""

import re

import made_files
import pytest

from block_laws import check_blocks
from rag_embeddings import find_files, read_file
from rag_embeddings.cli.index import index
from rag_embeddings.errors import DocumentError
from rag_embeddings.read.files import SUFFIXES
from rag_embeddings.read.html import HTML_SUFFIXES
from rag_embeddings.read.layout import LayoutReader
from rag_embeddings.read.markdown import MARKDOWN_SUFFIXES
from rag_embeddings.text import Document

MARKDOWN = "# Title\n\nSome text of the file, which is long enough.\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", MARKDOWN.encode()),
        ("a.MARKDOWN", b"\xef\xbb\xbf" + MARKDOWN.encode()),
        ("a.html", b"<h1>Title</h1><p>Some text of the file, which is long enough."),
        (
            "a.htm",
            '<meta charset="utf-16"><h1>Title</h1><p>Some text of the file, which is long enough.'.encode("utf-16"),
        ),
        ("page", b"<!-- c --> <!DOCTYPE html><h1>Title</h1><p>Some text of the file, which is long enough."),
        ("a.pdf", made_files.pdf(MARKDOWN.strip())),
        ("manual", made_files.pdf(MARKDOWN.strip())),
        ("a.docx", made_files.docx(MARKDOWN.strip())),
        ("a.dotx", made_files.docx(MARKDOWN.strip())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_format_is_recognised(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    if data.startswith(b"\xff\xfe"):
        with pytest.raises(DocumentError, match="UTF-16"):
            read_file(path)
        return
    document = read_file(path)
    check_blocks(document)
    kinds = [block.kind for block in document.blocks if block.kind != "furniture"]
    assert kinds[-2:] == ["heading", "paragraph"]
    assert "Some text of the file, which is long enough." in document.text
    assert document.id == document.metadata["source"] == path.resolve().as_posix()


def test_text_is_what_the_file_holds(tmp_path):
    for name in ("a.txt", "a.md", "a.log"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf# a\r\n\r\nb\r")
        assert read_file(tmp_path / name).text == "# a\r\n\r\nb\r"
    assert read_file(tmp_path / "a.txt").blocks == ()


def test_a_page_may_name_its_encoding(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes('<meta charset="ISO-8859-1"><p>Caf\u00e9 \u201cquoted\u201d'.encode("cp1252"))
    assert read_file(path).text == "Caf\u00e9 \u201cquoted\u201d"
    for bad in ("no-such", "rot13", "zip", "unicode_escape", "idna"):
        path.write_bytes(f'<meta charset="{bad}"><p>a'.encode())
        with pytest.raises(DocumentError, match="names an encoding"):
            read_file(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdf", b"no pdf", r"a\.pdf': this PDF is broken"),
        ("a.docx", b"no docx", r"a\.docx': this DOCX is broken"),
        ("a.html", b"<div>" * 5000, r"a\.html': this HTML opens more than"),
        ("a.md", b"a\0b", "binary"),
        ("a.txt", b"\xff", "not UTF-8"),
        ("a.html", b"\xff", "not UTF-8"),
        ("a.txt", b"\xff\xfea\0", "UTF-16"),
    ],
)
def test_errors_name_the_file(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match=message):
        read_file(tmp_path / name)


def test_folders_give_every_format(tmp_path):
    for name in ("a.md", "b.html", "c.pdf", "d.docx", "e.txt", "f.png", ".g.md"):
        (tmp_path / name).touch()
    assert [path.name for path in find_files([tmp_path])] == ["a.md", "b.html", "c.pdf", "d.docx", "e.txt"]


def test_files_and_metadata_know_the_same_suffixes(tmp_path):
    """What loaders name in the metadata is read as the file itself is."""
    for suffix in (*MARKDOWN_SUFFIXES, *HTML_SUFFIXES):
        path = tmp_path / f"a{suffix.upper()}"
        path.write_text("<h1>A</h1>" if suffix in HTML_SUFFIXES else "# A", encoding="utf-8")
        (block,) = read_file(path).blocks
        assert block.kind == "heading"
        for source in (str(path), path, f"https://example.org/a{suffix}?raw=1#top"):
            loaded = Document(path.read_text(encoding="utf-8"), metadata={"source": source})
            assert LayoutReader()(loaded).blocks == (block,), source
        assert find_files([tmp_path]).count(path) == 1


def test_the_command_names_the_suffixes_of_a_folder():
    said = set(re.findall(r"\.[a-z]+\b", index.help.partition("files that end in")[2].partition("are taken")[0]))
    assert said == SUFFIXES
