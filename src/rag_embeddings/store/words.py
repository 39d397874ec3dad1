"""Text to the words that keyword search compares: folded, without stop words, stemmed, by language."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import regex

from rag_embeddings.errors import require

_EXTRA = "keywords"
_FORMAT = 1  # grows when texts are cut into words in another way
# Languages with a Snowball stemmer, and the name of their stop words in bm25s, where it has some.
_LANGUAGES = {
    "ar": "",
    "ca": "",
    "cs": "",
    "da": "DANISH",
    "de": "GERMAN",
    "el": "",
    "en": "EN",
    "eo": "",
    "es": "SPANISH",
    "et": "",
    "eu": "",
    "fa": "",
    "fi": "",
    "fr": "FRENCH",
    "ga": "",
    "hi": "",
    "hu": "",
    "hy": "",
    "id": "",
    "it": "ITALIAN",
    "lt": "",
    "ne": "",
    "nl": "DUTCH",
    "no": "NORWEGIAN",
    "pl": "",
    "pt": "PORTUGUESE",
    "ro": "",
    "ru": "RUSSIAN",
    "sr": "",
    "sv": "SWEDISH",
    "ta": "",
    "tr": "TURKISH",
    "yi": "",
}
# Scripts that put no space between words: their runs are compared by pairs of characters, as Lucene's CJKAnalyzer does.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# Words of one letter are left out, as in bm25s and scikit-learn; words are cut at 255 letters, as in Lucene. No
# quantifier stands inside another, so this is linear.
_WORDS = regex.compile(rf"([{_UNSPACED}]+)|[\w--[{_UNSPACED}]]{{2,255}}", regex.V1)


class Words:
    """Cuts texts into words. Thread-safe.

    Words are folded (NFKC, case), found as Unicode has them, and stemmed by Snowball after stop words are taken out. In
    scripts without spaces they are pairs of characters.

    Args:
        language: ISO 639-1 code of the texts, which decides on stop words and stemmer; ``""`` for neither, which needs
            no extra.

    Raises:
        ValueError: If there is no stemmer for the language.
        MissingExtraError: If bm25s (stop words) or PyStemmer is not installed.
    """

    def __init__(self, language: str = "en") -> None:
        if language and language not in _LANGUAGES:
            known = ", ".join(sorted(_LANGUAGES))
            raise ValueError(f"there is no stemmer for language {language!r}; known are {known}, and '' for none")
        self.language = language
        self._stemmers: Any = require("Stemmer", _EXTRA) if language else None
        self._stop_words = _stop_words(language)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides on the words, JSON-safe."""
        stemmer = self._stemmers.version() if self._stemmers else ""
        return {"language": self.language, "format": _FORMAT, "stemmer": stemmer}

    def of(self, text: str) -> list[str]:
        """Return the words of a text, in order, repeated ones as often as they stand there."""
        words: list[str] = []
        for found in _WORDS.finditer(_folded(text)):
            if found[1] is None:
                words.append(found[0])
            else:
                words.extend(map("".join, pairwise(found[1])) if len(found[1]) > 1 else [found[1]])
        words = [word for word in words if word not in self._stop_words]
        if self._stemmers is None:
            return words
        stemmer = self._stemmers.Stemmer(self.language)  # an object of it is not for several threads
        return [word for word in stemmer.stemWords(words) if word]


def language_of(language: str) -> str:
    """Return a language for `Words`: the given one, ``""`` where it has no stemmer."""
    return language if language in _LANGUAGES else ""


def is_installed(language: str) -> bool:
    """Whether what a language for `Words` needs is installed."""
    return not language or bool(find_spec("Stemmer") and find_spec("bm25s"))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def _stop_words(language: str) -> frozenset[str]:
    name = _LANGUAGES.get(language)
    if not name:
        return frozenset()
    return frozenset(map(_folded, getattr(require("bm25s.stopwords", _EXTRA), f"STOPWORDS_{name}")))
