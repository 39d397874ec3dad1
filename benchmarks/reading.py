"""How fast the readers are, on Debian's documentation, beside other parsers where they are installed.

    apt-get install python3-doc r-doc-pdf nodejs; python benchmarks/reading.py

The unit is a second of processor time; each figure is the best of three runs.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

from rag_embeddings import read_html, read_markdown, read_pdf

PAGE = Path("/usr/share/doc/python3-doc/html/library/os.html")
BOOK = Path("/usr/share/doc/nodejs/api/fs.md")
MANUAL = Path("/usr/share/R/doc/manual/R-data.pdf")


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of three runs."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def text(name: str, path: Path, read: Callable[[str], object]) -> None:
    """Print megabytes a second."""
    if not path.exists():
        print(f"{name:28} skipped: {path} is absent")
        return
    source = path.read_text("utf-8")
    print(f"{name:28} {len(source.encode()) / 1e6 / seconds(lambda: read(source)):8.1f} MB/s  ({path.name})")


def manual() -> None:
    """Print pages a second, and how many times longer pdfplumber takes to find words with their fonts."""
    if not MANUAL.exists():
        print(f"read_pdf skipped: {MANUAL} is absent")
        return
    pages = read_pdf(MANUAL).blocks[-1].page or 1
    ours = seconds(lambda: read_pdf(MANUAL))
    print(f"{'read_pdf':28} {pages / ours:8.1f} pages/s  ({MANUAL.name})")
    if importlib.util.find_spec("pdfplumber") is None:
        print("pdfplumber skipped: not installed")
        return
    import pdfplumber

    def words() -> None:
        with pdfplumber.open(MANUAL) as pdf:
            for page in pdf.pages:
                page.extract_words(extra_attrs=["fontname", "size"])
                page.close()

    theirs = seconds(words)
    print(f"{'pdfplumber, words only':28} {pages / theirs:8.1f} pages/s  ({theirs / ours:.1f} times longer)")


if __name__ == "__main__":
    text("read_markdown", BOOK, read_markdown)
    text("read_html", PAGE, read_html)
    manual()
