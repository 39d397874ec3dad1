"""Where an amount on a late page is ranked, and whether its unit comes with it, without and with scope notes.

    python benchmarks/scope_notes.py

A report of 90 pages says on page 5 that all numbers are in millions; each later page tells an amount of another mill.
Ten questions ask for amounts on pages 40 to 85, five in the words of the text and five that name the unit. Each is
asked through LangChain's and LlamaIndex's retriever, with all-MiniLM-L6-v2. Printed: the rank of the passage that holds
the amount, and whether its unit can be read from what a language model is given.
"""

from __future__ import annotations

from llama_index.core.schema import MetadataMode

from rag_embeddings import Block, Document, ScopeNotes, Span, TransformerEncoder
from rag_embeddings.langchain import LayoutTextSplitter, SentenceParentIndex
from rag_embeddings.llama_index import LayoutNodeParser, SentenceParentRetriever

FIRST = "Lyon Porto Leeds Ghent Turin Graz Lisbon Derry Bergen"
SECOND = "Cork Nantes Lille Metz Trier Mainz Bremen Lucca Siena Pisa"
NOTE = "All numbers in the document are in millions of euros."
K = 200


def report() -> tuple[Document, dict[str, str]]:
    """Return the report and what each mill earned, as its page says it."""
    towns = [f"{first} and {second}" for first in FIRST.split() for second in SECOND.split()]
    text, blocks, amounts = "", [], {}
    for page in range(1, 91):
        town = towns[page - 1]
        amounts[town] = f"It earned {200 + 7 * page} in the year"
        body = (
            NOTE if page == 5 else f"The roof was repaired in spring. {amounts[town]}, and {page} people worked there."
        )
        for kind, part in (("heading", f"The mill of {town}"), ("paragraph", body), ("furniture", f"Page {page}")):
            blocks.append(Block(Span(len(text), len(text) + len(part)), kind, int(kind == "heading"), page))
            text += part + "\n\n"
    return Document(text, id="report", blocks=tuple(blocks)), amounts


def found(shown: list[str], amount: str) -> tuple[int, bool]:
    """Return the rank of the passage with an amount, from 1, and whether its unit is told."""
    rank = next(index for index, text in enumerate(shown) if amount in text)
    return rank + 1, "in millions of euros" in shown[rank]


def main() -> None:
    """Print the table."""
    document, amounts = report()
    towns = list(amounts)[39:85:5]
    questions = {town: f"How much did the mill of {town} earn in the year?" for town in towns[:5]}
    questions |= {town: f"How many million euros did the mill of {town} earn?" for town in towns[5:]}
    encoder = TransformerEncoder()
    print(f"{'framework':<12}{'notes':<8}{'ranks':<36}unit told")
    for notes in (None, ScopeNotes()):
        splitter = LayoutTextSplitter(chunk_size=60, embeddings=encoder, notes=notes)
        with SentenceParentIndex(embeddings=encoder, splitter=splitter, k=K, context_in_content=True) as index:
            index.upsert([document])
            results = [found([item.page_content for item in index.invoke(q)], amounts[t]) for t, q in questions.items()]
        show("LangChain", notes, results)
        parser = LayoutNodeParser(chunk_size=60, embed_model=encoder, notes=notes)
        with SentenceParentRetriever.from_documents(
            [document], embed_model=encoder, node_parser=parser, similarity_top_k=K
        ) as retriever:
            results = [
                found([item.node.get_content(MetadataMode.LLM) for item in retriever.retrieve(q)], amounts[t])
                for t, q in questions.items()
            ]
        show("LlamaIndex", notes, results)


def show(framework: str, notes: object, results: list[tuple[int, bool]]) -> None:
    """Print a row."""
    ranks = " ".join(str(rank) for rank, _ in results)
    told = sum(unit for _, unit in results)
    print(f"{framework:<12}{'with' if notes else 'without':<8}{ranks:<36}{told} of {len(results)}")


if __name__ == "__main__":
    main()
