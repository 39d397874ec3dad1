"""Small tokenizers made in memory instead of downloaded: one of each family that users bring."""

from __future__ import annotations

import re
from collections import Counter
from math import log

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "The river rose slowly in the spring, and the miller opened both of the gates before the village woke.",
    "A good ledger says what was bought, what was sold, and what is still owed; nothing else belongs in it.",
    "Nobody believed that the old bridge would carry 40 carts a day, but it did so for ninety years.",
    "Copper melts at 1085 degrees, tin at 232; the smith kept the two figures on a slate by the door.",
    "Is the water safe to drink? The teacher thought so, and the children drank it every morning.",
    "Write short sentences. Read them aloud. Cut what you would not say to a friend across the table.",
    "Der Fluss stieg im Frühling langsam an, und der Müller öffnete beide Tore, bevor das Dorf erwachte.",
    "Le pont était vieux, mais il portait encore quarante charrettes par jour.",
    "河水在春天慢慢上涨。磨坊主打开了两扇闸门。",
]


def _pieces(words: list[str], at_least: int) -> Counter[str]:
    """Single characters, and the stretches of 2 to 6 characters that occur often enough; a training that never varies.

    The trainers of `tokenizers` give another vocabulary at every run.
    """
    counts: Counter[str] = Counter()
    for word in words:
        counts.update(word[i : i + n] for n in range(1, 7) for i in range(len(word) - n + 1))
    return Counter({piece: n for piece, n in sorted(counts.items()) if n >= at_least or len(piece) == 1})


def wordpiece() -> Tokenizer:
    """BERT's way: lower case, words cut at punctuation, `##` pieces, words over 100 characters are one [UNK]."""
    normalizer = normalizers.BertNormalizer(lowercase=True)
    words = re.findall(r"\w+|[^\w\s]", " ".join(normalizer.normalize_str(text) for text in SENTENCES))
    pieces = _pieces(words, at_least=3)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces, *(f"##{piece}" for piece in pieces)]
    vocabulary = {name: index for index, name in enumerate(names)}
    unknown = "[UNK]"
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    tokenizer.add_special_tokens(names[:4])
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def bpe() -> Tokenizer:
    """GPT's way: merges over bytes, so that one character may be several tokens with equal offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram() -> Tokenizer:
    """SentencePiece's way: NFKC, spaces become a mark in front of the word, the most likely pieces win."""
    words = [f"▁{word}" for text in SENTENCES for word in text.split()]
    pieces = _pieces(words, at_least=3)
    total = sum(pieces.values())
    scored = [("<unk>", 0.0), *((piece, round(log(count / total), 4)) for piece, count in pieces.items())]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer
