"""Index this project's own documentation and ask it three questions through all three doors.

Run it with ``make demo``. A second run embeds nothing: the index knows that nothing has changed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rag_embeddings.cli import main as command_line
from rag_embeddings.langchain import InstructionEmbeddings, SentenceParentIndex
from rag_embeddings.llama_index import InstructionEmbedding, SentenceParentRetriever

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = (
    "What happens to the index when the process is killed?",
    "Which text is matched, and which text is returned?",
    "How do I switch off a model's query prompt?",
)


def show(door: str, text: str, source: str, start: int, end: int) -> None:
    """Print one passage with its citation."""
    print(f"\n  [{door}] {Path(source).name}, characters {start} to {end}")
    print("    " + " ".join(text.split())[:300])


def run(*arguments: str) -> None:
    """Run the command line, and end with it where it fails."""
    if code := command_line(arguments):
        raise SystemExit(code)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", default="demo-index", help="directory of the index")
    db = parser.parse_args().db
    began = time.perf_counter()

    print("== Index: rag-embeddings index README.md docs")
    run("index", str(ROOT / "README.md"), str(ROOT / "docs"), "--db", db)
    indexed = time.perf_counter() - began

    langchain = SentenceParentIndex(embeddings=InstructionEmbeddings(), directory=db, k=1)
    llama_index = SentenceParentRetriever.from_directory(db, embed_model=InstructionEmbedding(), similarity_top_k=1)
    for number, question in enumerate(QUESTIONS, 1):
        print(f"\n== Question {number}: {question}\n")
        run("ask", question, "--db", db, "-k", "1")
        document = langchain.invoke(question)[0]
        node = llama_index.retrieve(question)[0]
        for door, text, facts in (
            ("LangChain", document.page_content, document.metadata),
            ("LlamaIndex", node.get_content(), node.metadata),
        ):
            start, end = facts["matches"][0]
            cited = text[start - facts["start_index"] : end - facts["start_index"]]
            show(door, cited, facts["source_id"], start, end)
        if document.page_content != node.get_content():
            raise SystemExit("LangChain and LlamaIndex returned different passages")
        print("\n  LangChain and LlamaIndex returned the same passage.")
    print(f"\n== Done: indexed in {indexed:.1f} s, {time.perf_counter() - began:.1f} s in all.")


if __name__ == "__main__":
    main()
