"""Tiny sentence-transformers models with random weights, saved to a folder: one of each kind that encoders must get right."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast, Qwen2Config

import toy_tokenizers
from rag_embeddings.encode.transformer import TransformerEncoder

WIDTH = 32
LIMIT = 40  # tokens, special ones included
ROOMY = 200


@dataclass(frozen=True)
class Toy:
    """How a toy model is built.

    Attributes:
        pooling: Pooling mode; None for static word vectors.
        tokenizer: Name of a function in `toy_tokenizers`.
        prompts: What the model's own configuration says.
        include_prompt: Whether pooling counts the prompt's tokens.
        dense: Width of a Dense module behind pooling; 0 for none.
        normalize: Whether the model ends with Normalize.
        causal: Whether tokens only look back.
        similarity: The model's own comparison.
        router: Whether queries take static word vectors instead.
        layers: Layers of the transformer.
        left: Whether its tokenizer pads on the left.
        limit: Most tokens, special ones included.
    """

    pooling: str | None = "mean"
    tokenizer: str = "wordpiece"
    prompts: dict[str, str] = field(default_factory=dict)
    include_prompt: bool = True
    dense: int = 0
    normalize: bool = True
    causal: bool = False
    similarity: str | None = None
    router: bool = False
    layers: int = 2
    left: bool = False
    limit: int = LIMIT


PROMPTS = {"query": "find: ", "document": "text: "}
TOYS = {
    "mean": Toy(),
    "mean_bpe": Toy(tokenizer="bpe", normalize=False),
    "mean_unigram": Toy(tokenizer="unigram"),
    "cls": Toy(pooling="cls"),
    "max": Toy(pooling="max", normalize=False),
    "weightedmean": Toy(pooling="weightedmean"),
    "lasttoken": Toy(pooling="lasttoken", tokenizer="bpe", causal=True, prompts={"query": "Instruct: find\nQuery:"}),
    "dense": Toy(dense=16, prompts=PROMPTS),
    "prompts": Toy(prompts=PROMPTS),
    "passage": Toy(prompts={"query": "", "passage": "passage: "}, normalize=False, similarity="dot"),
    "without_prompt": Toy(prompts=PROMPTS, include_prompt=False),
    "causal_mean": Toy(tokenizer="bpe", causal=True),
    "static": Toy(pooling=None, normalize=False),
    "static_prompts": Toy(pooling=None, prompts=PROMPTS),
    "router": Toy(router=True, prompts=PROMPTS),
    "roomy": Toy(limit=ROOMY, layers=3),
}


_HOME = tempfile.TemporaryDirectory(prefix="toy_models_")


@functools.cache
def folder(name: str) -> Path:
    """The folder of one of `TOYS`, built when first asked for and removed when the process ends."""
    return save(Path(_HOME.name) / name, TOYS[name])


@functools.cache
def encoder(name: str) -> TransformerEncoder:
    """One of `TOYS` as it is, loaded once."""
    return TransformerEncoder(folder(name))


@functools.cache
def minilm() -> TransformerEncoder:
    """The real all-MiniLM-L6-v2 from its package, loaded once."""
    return TransformerEncoder()


def save(folder: Path, toy: Toy, seed: int = 0) -> Path:
    """Build a model and save it; the same arguments give the same weights."""
    torch.manual_seed(seed)
    backend = getattr(toy_tokenizers, toy.tokenizer)()
    chain: list[Any] = []
    if toy.pooling is None:
        chain.append(modules.StaticEmbedding(backend, embedding_dim=WIDTH))
    else:
        chain.append(_transformer(folder / "parts", toy, backend))
        chain.append(modules.Pooling(WIDTH, toy.pooling, include_prompt=toy.include_prompt))
    if toy.router:
        query = modules.StaticEmbedding(toy_tokenizers.bpe(), embedding_dim=WIDTH)
        chain = [modules.Router.for_query_document(query_modules=[query], document_modules=chain)]
    if toy.dense:
        chain.append(modules.Dense(WIDTH, toy.dense))
    if toy.normalize:
        chain.append(modules.Normalize())
    model = SentenceTransformer(
        modules=chain, prompts=toy.prompts, similarity_fn_name=toy.similarity, device="cpu", local_files_only=True
    )
    place = folder / "model"
    model.save(str(place), create_model_card=False)
    return place


def _transformer(folder: Path, toy: Toy, backend: Any) -> Any:
    size = {
        "vocab_size": backend.get_vocab_size(),
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": toy.layers,
        "num_attention_heads": 2,
        "initializer_range": 0.3,  # large enough that a token notices its neighbours
        "max_position_embeddings": max(64, toy.limit),
    }
    config = Qwen2Config(num_key_value_heads=1, **size) if toy.causal else BertConfig(**size)
    AutoModel.from_config(config).save_pretrained(str(folder))
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=toy.limit,
        padding_side="left" if toy.left else "right",
        **_special(toy.tokenizer),
    ).save_pretrained(str(folder))
    return modules.Transformer(str(folder))


def _special(tokenizer: str) -> dict[str, str]:
    if tokenizer == "wordpiece":
        return {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if tokenizer == "bpe":
        return {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return {"pad_token": "<unk>", "unk_token": "<unk>"}
