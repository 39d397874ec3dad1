"""The text splitters that look at meaning, structure or topics: the core's chunks, through LangChain's doors."""

import json
import pickle

import pytest
from hypothesis import given, settings
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_text_splitters import TextSplitter

from hostile_texts import texts
from rag_embeddings.langchain import (
    BollingerTextSplitter,
    LLMTextSplitter,
    RegexTextSplitter,
    SemanticTextSplitter,
    TopicTextSplitter,
)
from rag_embeddings.langchain.convert import to_core
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.llm import LLMSplitter
from rag_embeddings.split.regex import RegexSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.topics import TopicSplitter
from rag_embeddings.testing.encoder import DeterministicEncoder
from toy_tokenizers import wordpiece

ENCODER = DeterministicEncoder(dimensions=32)
TOKENS = wordpiece()
MILL = "The mill ground the corn of the village. The mill wheel turned in the river. The miller sold the corn. "
LAW = "The court heard the case of the bridge toll. The judge read the law of tolls. The court fined the owner. "
PROSE = (MILL + LAW) * 3


def second(prompt):
    """A model that finds a topic at the second sentence."""
    return "[2]"


def pairs():
    counted = {"tokenizer": TOKENS}
    return {
        "semantic": (
            SemanticTextSplitter(ENCODER, chunk_size=40, **counted),
            SemanticSplitter(ENCODER, 40, **counted),
        ),
        "threshold": (
            SemanticTextSplitter(ENCODER, chunk_size=40, breakpoint_threshold_type="gradient", **counted),
            SemanticSplitter(ENCODER, 40, breakpoint_threshold_type="gradient", **counted),
        ),
        "bollinger": (
            BollingerTextSplitter(ENCODER, chunk_size=40, window=5, glue=1.0, **counted),
            BollingerSplitter(ENCODER, 40, window=5, glue=1.0, **counted),
        ),
        "topics": (
            TopicTextSplitter(ENCODER, chunk_size=80, min_chunk_size=10, **counted),
            TopicSplitter(ENCODER, 80, 10, **counted),
        ),
        "regex": (
            RegexTextSplitter(chunk_size=40, chunk_overlap=5, rules={"Q:": 0.0}, **counted),
            RegexSplitter(40, 5, rules={"Q:": 0.0}, **counted),
        ),
        "llm": (LLMTextSplitter(second, chunk_size=40, **counted), LLMSplitter(second, 40, **counted)),
    }


KINDS = list(pairs())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_chunks_are_the_cores(kind, text):
    splitter, core = pairs()[kind]
    assert isinstance(splitter, TextSplitter)
    source = Document(page_content=text, id="source", metadata={"a": [1]})
    found = splitter.split_documents([source])
    expected = core.split(to_core(source))
    assert [(chunk.id, chunk.page_content) for chunk in found] == [(chunk.id, chunk.text) for chunk in expected]
    assert splitter.split_text(text) == [chunk.page_content for chunk in found]
    for chunk, wanted in zip(found, expected, strict=True):
        place = chunk.metadata["start_index"], chunk.metadata["end_index"], chunk.metadata["source_id"]
        assert place == (wanted.start, wanted.end, "source")
        assert json.loads(json.dumps(chunk.metadata)) == chunk.metadata
        assert chunk.metadata["a"] == [1]
        spans = chunk.metadata.get("spans", f"{wanted.start}-{wanted.end}").split(",")
        slices = [text[slice(*map(int, span.split("-")))] for span in spans]
        assert "\n".join(slices) == chunk.page_content


@pytest.mark.parametrize("kind", KINDS)
async def test_every_door_gives_the_same(kind):
    splitter, _ = pairs()[kind]
    found = [Document(page_content=PROSE, metadata={"n": 1}), Document(page_content="")]
    chunks = splitter.split_documents(found)
    assert len(chunks) > 1
    assert splitter.transform_documents(found) == await splitter.atransform_documents(found) == chunks
    assert splitter.create_documents([PROSE, ""], [{"n": 1}, {}]) == chunks
    assert pickle.loads(pickle.dumps(splitter)).split_documents(found) == chunks  # noqa: S301


def test_topics_bring_together_what_stands_apart():
    def by_threes(vectors):
        return [index // 3 % 2 for index in range(len(vectors))]

    splitter = TopicTextSplitter(ENCODER, chunk_size=200, min_chunk_size=20, cluster=by_threes, tokenizer=TOKENS)
    chunks = splitter.create_documents([PROSE])
    assert [chunk.page_content for chunk in chunks] == ["\n".join([MILL.strip()] * 3), "\n".join([LAW.strip()] * 3)]
    assert chunks[0].metadata["spans"].count(",") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_chunk_of_several_slices_cite_the_first_text(kind):
    def by_threes(vectors):
        return [index // 3 % 2 for index in range(len(vectors))]

    topics = TopicTextSplitter(ENCODER, chunk_size=200, min_chunk_size=20, cluster=by_threes, tokenizer=TOKENS)
    chunks = topics.split_documents([Document(page_content=PROSE, id="root")])
    parts = pairs()[kind][0].split_documents(chunks)
    assert len(parts) > len(chunks)
    for part in parts:
        assert part.metadata["source_id"] == "root"
        start, end = part.metadata["start_index"], part.metadata["end_index"]
        spans = part.metadata.get("spans", f"{start}-{end}").split(",")
        assert "\n".join(PROSE[slice(*map(int, span.split("-")))] for span in spans) == part.page_content
        assert (spans[0].split("-")[0], spans[-1].split("-")[1]) == (str(start), str(end))


def test_metadata_of_your_own_that_is_called_spans_is_kept():
    for own in ({"spans": "0-1,2-3"}, {"spans": [1, 2], "source_id": "mine"}):
        source = Document(page_content="One. Two.", metadata=own)
        assert RegexTextSplitter(40, tokenizer=TOKENS).split_documents([source])[0].metadata["spans"] == own["spans"]


def test_embeddings_without_a_tokenizer_need_one():
    fake = DeterministicFakeEmbedding(size=8)
    with pytest.raises(ValueError, match="tokenizer"):
        SemanticTextSplitter(fake)
    assert SemanticTextSplitter(fake, tokenizer="cl100k_base", chunk_size=30).split_text(PROSE)
    made = SemanticTextSplitter.from_tiktoken_encoder("cl100k_base", embeddings=fake, chunk_size=30)
    assert made.split_text(PROSE) == SemanticTextSplitter(fake, tokenizer="cl100k_base", chunk_size=30).split_text(
        PROSE
    )


def test_impossible_settings_are_refused_at_once():
    with pytest.raises(ValueError, match="breakpoint_threshold_type"):
        SemanticTextSplitter(ENCODER, breakpoint_threshold_type="median")
    with pytest.raises(ValueError, match="window"):
        BollingerTextSplitter(ENCODER, window=0)
    with pytest.raises(ValueError, match="regular expression"):
        RegexTextSplitter(rules={"(": 0})


@pytest.mark.parametrize("content", ["[4]", [{"type": "text", "text": "Topics: [4]"}]])
def test_a_chat_model_marks_boundaries(content):
    model = GenericFakeChatModel(messages=iter([AIMessage(content)]))
    splitter = LLMTextSplitter(model, chunk_size=100, tokenizer=TOKENS)
    chunks = splitter.create_documents([MILL + LAW])
    assert [chunk.page_content for chunk in chunks] == [MILL.strip(), LAW.strip()]
    assert {chunk.metadata["boundaries"] for chunk in chunks} == {"llm"}
    assert splitter.core.settings()["model"].startswith("GenericFakeChatModel")


def test_what_is_made_of_a_chat_model_marks_boundaries():
    model = GenericFakeChatModel(messages=iter([AIMessage("[4]")]))
    splitter = LLMTextSplitter(model.with_retry(), chunk_size=100, tokenizer=TOKENS)
    assert splitter.split_text(MILL + LAW) == [MILL.strip(), LAW.strip()]
    assert splitter.core.settings()["model"].startswith("GenericFakeChatModel")
    chain = RunnableLambda(second) | str.upper
    assert LLMTextSplitter(chain, tokenizer=TOKENS, name="shout").core.settings()["model"] == "shout"
    with pytest.raises(ValueError, match="llm is a LangChain model or a function"):
        LLMTextSplitter("gpt")


def test_a_model_has_the_name_that_it_is_given():
    for llm in (second, GenericFakeChatModel(messages=iter([]))):
        assert LLMTextSplitter(llm, tokenizer=TOKENS, name="mine").core.settings()["model"] == "mine"
