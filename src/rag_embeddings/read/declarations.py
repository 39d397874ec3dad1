"""Which sentences declare something for more text than their own: rules for English."""

from __future__ import annotations

import re
from typing import NamedTuple

_LONGEST = 1200  # characters of a sentence that is looked at

# Repetitions that could divide the same text in several ways are possessive: their work would grow exponentially.
_OPEN, _CLOSE = "[\"'“‘„«]", "[\"'”’“»]"  # noqa: RUF001
_QUOTED = rf"(?:{_OPEN}|\*\*)([^\"“”„«»*]{{1,60}}?)(?:{_CLOSE}|\*\*)"
_MEANS = (
    r"(?:means?|refers? to|denotes?|stands? for|includes?|excludes?|has the meaning|have the meaning|is defined as)"
)
_SHALL = r"shall (?:not )?(?:mean|include|refer to|have the meaning)"
# "License" shall mean, "You" (or "Your") shall mean, "Source" form shall mean, the term "X" means
_DEFINES = re.compile(
    rf"{_QUOTED}(?: \((?:or|and) [^)]{{1,60}}\))?(?: (?:here|also|herein))?,? (?P<verb>{_MEANS}|(?:\w+ )?{_SHALL})\b"
)
_SINGULAR = re.compile(r"\w*s\b|has|is|shall|\w+ shall")  # verbs that any term may have; "mean" takes a plural one
# the word "approved", wherever it appears, means; references to "we" and "us" are to
_WORDS_USED = re.compile(
    rf"\b(?:terms?|words?|expressions?|phrases?|references to|abbreviations?) ((?:{_QUOTED},?(?: and| or)? ?)++)"
    rf"[^.]{{0,60}}?\b(?:{_MEANS}|{_SHALL}|(?:are|is) to\b|(?:are|is) used)"
)
# Aldred Ltd (the "Supplier"), (hereinafter referred to as the "Client"); but no call such as read("file")
_NAMED = re.compile(
    r"(?<!\S)\((?P<said>(?:herein(?:after)? |hereafter |together |collectively,? |referred to as |called |the |our |"
    r"each,? )*)(?:an? )?[\"“](?:the )?(?P<term>[^\"“”]{1,60})[\"”]\)"
)
# In this section, Company means; for the purposes of this License, Derivative Works shall not include
_BARE = re.compile(rf"this \w+, (?:the )?([A-Z][\w-]*+(?: [A-Z][\w-]*+){{0,3}}) (?:{_MEANS}|{_SHALL})\b")

_ADDS = re.compile(r"\b(?:includes?|excludes?|shall (?:not )?include)\b")

_SCALE = r"(?:hundreds|thousands|millions|billions|trillions)"
_CURRENCY = (
    r"(?:(?:U\.?S\.?|US|Canadian|Australian|Hong Kong|Swiss|British|new) )?"
    r"(?:dollars?|euros?|pounds(?: sterling)?|sterling|yen|francs?|rupees?|yuan|renminbi|kronor|pesos?|cents|"
    r"USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|[$€£¥](?!\{))"
)
_MEASURES = {
    "length": r"(?:milli|centi|kilo|micro|nano)?met(?:er|re)s?|mm|cm|km|inch(?:es)?|feet|yards|miles",
    "volume": r"(?:milli|micro|centi|hecto)?lit(?:er|re)s?|m[lL]|µ[lL]|gallons|barrels|cubic \w+",
    "mass": r"(?:kilo|milli|micro)?grams?|kg|mg|tons|tonnes|metric tons|ounces",
    "temperature": r"(?:degrees|celsius|fahrenheit|kelvin|°\w)",
    "duration": r"(?:milli|micro|nano)?seconds|ms|minutes|hours|days|weeks|months|years",
    "clock": r"UTC|GMT|CET|(?:[A-Z][\w-]+ ){0,3}(?:local|standard|daylight|summer|mean)? ?time",
    "share": r"per ?cent|percent(?:ages?)?|percentage points|basis points|per mille",
    "data": r"bytes|bits|[kKMGT]i?B",
}
_UNIT = rf"(?:{_SCALE}|{_CURRENCY}|{'|'.join(_MEASURES.values())})(?!\w)"
_AMOUNTS = r"(?:amounts?|numbers?|figures?|values?|sums?|totals?|balances?|dollars?|data|currency|statements?|results?)"
_SUBJECTS = (
    rf"(?:{_AMOUNTS}|prices?|fees?|costs?|quantities|dimensions?|lengths?|distances?|heights?|levels?|widths?|weights?|"
    r"mass(?:es)?|volumes?|temperatures?|angles?|times?|dates?|durations?|timeouts?|intervals?|percentages?|rates?|"
    r"coordinates?|sizes?|limits?|units?|concentrations?|speeds?|pressures?|measurements?|salaries|wages|revenues?|ages?)"
)
# All numbers in this document are in millions; prices are quoted in euros; levels are measured in metres
_MEASURED = re.compile(
    rf"\b({_SUBJECTS})\b(?P<between>[^.;:]{{0,80}}?) (?:is|are|have been|has been|shall be)(?: \w+ly| all| always)?"
    r"(?: (?:stated|given|expressed|reported|presented|shown|quoted|measured|denominated|listed|specified|recorded|"
    rf"calculated|computed|rounded|converted|settled))? ?(?:to the nearest|in|to|as)? ?"
    rf"(?:the )?(?P<unit>(?:[a-z]+ of )?{_UNIT})",
    re.IGNORECASE,
)
_ROUNDED = re.compile(rf"\b({_SUBJECTS})\b[^.;:]{{0,80}}? (?:is|are|have been) rounded\b", re.IGNORECASE)
# (in millions, except per share data), (amounts in thousands of euros)
_BRACKETED = re.compile(
    rf"\((?:(?>all|{_AMOUNTS}|{_CURRENCY}|expressed|stated|unaudited|are|and|,|;) ?)*+\b"
    rf"in (?P<unit>(?:{_CURRENCY} ){{0,1}}{_UNIT}[^()]{{0,80}})\)",
    re.IGNORECASE,
)

_UNLESS = re.compile(
    r"^\W*(?:unless|except (?:where|as|when))(?: it is| they are| explicitly| expressly)? "
    r"(?:otherwise|we say|noted|stated|indicated|specified|the context)\b|"
    r"\b(?:unless|except (?:where|as|when)) (?:otherwise )?(?:noted|stated|indicated|specified|mentioned)"
    r"(?: otherwise)?\W*$",
    re.IGNORECASE,
)
_MONTH = r"(?:\d|January|February|March|April|May|June|July|August|September|October|November|December)"
_EFFECTIVE = re.compile(
    rf"^effective(?: date)?\b.{{0,60}}{_MONTH}|\beffective date of (?:this|the) .{{0,60}}{_MONTH}|"
    r"\bthis [\w ]{1,40}?(?:is|are|becomes?|takes?|shall|will|comes?|enters?|appl(?:y|ies)|remains?)\b"
    rf"(?=.{{0,30}}\b(?:effective|effect|valid|force|appl(?:y|ies))\b).{{0,60}}?"
    rf"\b(?:as of|from|on|until|since|to|after|before)\b.{{0,20}}{_MONTH}",
    re.IGNORECASE,
)

_LOCAL = (
    r"section|subsection|sub-section|chapter|part|article|clause|paragraph|schedule|appendix|annex|annexe|exhibit|item|"
    r"step|table|figure|definition|note"
)
_WHOLE = (
    r"document|report|agreement|manual|guide|policy|contract|licen[cs]e|book|booklet|paper|specification|standard|"
    r"handbook|protocol|filing|timetable|plan|brochure|prospectus|memo|memorandum|file|text|article|page|publication|"
    r"bulletin|notice|statement|tutorial|release|catalogue|catalog|treaty|act|regulation|leaflet|lease|thesis|study"
)
_THIS_LOCAL = re.compile(rf"\b(?:this|the (?:rest|remainder) of (?:this|the)) ({_LOCAL})\b(?! of)", re.IGNORECASE)
_THIS_WHOLE = re.compile(
    rf"\b(?:this|in the|throughout the|of the) (?:whole |entire |annual |present )?(?:{_WHOLE})\b|\bherein(?:after)?\b",
    re.IGNORECASE,
)
_NEXT = re.compile(r"\b(?:the )?(?:following|next) (table)\b|\b(table) below\b", re.IGNORECASE)
_ONWARD = re.compile(
    r"\b(?:from (?:this point|here|now) on(?:ward)?s?|(?:the )?(?:rest|remainder) of|henceforth|hereafter)\b",
    re.IGNORECASE,
)
# Throughout this manual, commands are; in this document, all integers are
_CONVENTION = re.compile(
    rf"^(?:throughout|in|within|for|for the purposes? of|as used in) (?:the (?:rest|remainder) of )?"
    rf"this (?:{_LOCAL}|{_WHOLE}),? (?!(?:we|you) (?!use|assume|write|denote|refer|call|mean|follow|apply))(?:.* )?"
    r"(?:is|are|assumes?|stands?|refers?|denotes?|means?|uses?|follows?|appl(?:y|ies))\b",
    re.IGNORECASE,
)
_UNIVERSAL = re.compile(
    rf"^(?:all|any|every|each|no)(?: \w+){{1,5}} "
    rf"(?:in|throughout|of) this (?:{_LOCAL}|{_WHOLE}) (?:is|are|assumes?|refers?|appl(?:y|ies)|uses?)\b",
    re.IGNORECASE,
)
_THIS_FIRST = re.compile(rf"^(?:in|within) this (?:{_LOCAL}|{_WHOLE})\b[^,]", re.IGNORECASE)
_ANY = re.compile(
    r"mean|refer|denot|stand|includ|exclud|defin|shall|interpret|unless|except|effect|valid|force|appl|round|herein|"
    r"throughout|\bthis\b|\(|\bin\b|\bare\b",
    re.IGNORECASE,
)


class Declaration(NamedTuple):
    """What a sentence declares.

    Attributes:
        place: What it names as its scope: ``"section"``, ``"table"``, ``"chapter"``, ..., ``"document"``; empty if it
            names none.
        keys: What it settles. A later or nearer declaration with the same keys overrides it; without keys none does.
        term: The word it defines, if it is a definition.
        onward: Whether it holds from its own place on.
        adds: Whether it only adds to what others say of the same, as "includes" does.
    """

    place: str
    keys: frozenset[str]
    term: str = ""
    onward: bool = False
    adds: bool = False


def declarations(sentence: str, *, label: bool = False) -> list[Declaration]:
    """Read a sentence.

    Args:
        sentence: The sentence, on one line.
        label: Whether it is a heading, a caption or the head of a table, where ``(in millions)`` is a declaration.

    Returns:
        What it declares for other text; empty for most sentences.
    """
    if len(sentence) > _LONGEST or sentence.endswith("?") or not _ANY.search(sentence):
        return []
    place, onward = _place(sentence), bool(_ONWARD.search(sentence))
    if label:
        found = _BRACKETED.search(sentence)
        return [Declaration(place, _unit_keys(found["unit"], "amounts"), "", onward)] if found else []
    terms = _terms(sentence)
    if terms:
        adds = bool(_ADDS.search(sentence))
        return [Declaration(place, frozenset({f"term {term}"}), term, onward, adds) for term in terms]
    keys = _keys(sentence)
    return [] if keys is None else [Declaration(place, keys, "", onward)]


def _place(sentence: str) -> str:
    if sentence.startswith("Here "):
        return "paragraph"
    if found := _NEXT.search(sentence):
        return "table"
    if found := _THIS_LOCAL.search(sentence):
        return found[1].lower()
    return "document" if _THIS_WHOLE.search(sentence) else ""


def _terms(sentence: str) -> list[str]:
    defined = ((match[1], match["verb"]) for match in _DEFINES.finditer(sentence))
    found = [term for term, verb in defined if term.endswith("s") or _SINGULAR.match(verb)]
    for match in _WORDS_USED.finditer(sentence):
        found.extend(re.findall(_QUOTED, match[1]))
    found.extend(match["term"] for match in _NAMED.finditer(sentence) if match["said"] or _is_name(sentence, match))
    found.extend(match[1] for match in _BARE.finditer(sentence))
    # "the Scheme" is defined, and "Scheme" is what is used
    terms = (re.sub(r"^(?:[Tt]he|[Aa]n?) (?=\w)", "", term.strip(" ,.;:")) for term in found)
    return [term for term in dict.fromkeys(terms) if any(map(str.isalpha, term))]


def _is_name(sentence: str, match: re.Match[str]) -> bool:
    """Tell a name given in brackets from a gloss, ``absent ("missing") data``.

    A name is capitalised and stands behind another name, is an abbreviation, or takes up a word of what it names.
    """
    term, before = match["term"], sentence[: match.start()].split()
    if not term[0].isupper() or not before:
        return False
    behind_name = before[-1][0].isupper() or before[-1][0].isdigit()
    return behind_name or (len(term) > 1 and term.isupper()) or term.lower() in " ".join(before).lower()


def _keys(sentence: str) -> frozenset[str] | None:
    """Say what a sentence settles that defines no term; None if it is no declaration."""
    if _EFFECTIVE.search(sentence):
        return frozenset({"effective"})
    if found := _MEASURED.search(sentence):
        return _unit_keys(found["unit"], found[1].lower())
    if found := _ROUNDED.search(sentence):
        return frozenset({f"rounding {found[1].lower()}"})
    if sentence.startswith("(") and (found := _BRACKETED.search(sentence)):
        return _unit_keys(found["unit"], "amounts")
    # "In this chapter of her life" and "in this section we show" declare nothing.
    general = _UNLESS.search(sentence) or _CONVENTION.search(sentence) or _UNIVERSAL.search(sentence)
    return frozenset() if general and not _THIS_FIRST.search(sentence) else None


def _unit_keys(unit: str, subject: str) -> frozenset[str]:
    subject = "amounts" if re.fullmatch(_AMOUNTS, subject, re.IGNORECASE) else subject.rstrip("s")
    keys = set()
    if re.search(rf"\b{_SCALE}\b", unit, re.IGNORECASE):
        keys.add(f"scale {subject}")
    if re.search(rf"(?<!\w){_CURRENCY}(?!\w)", unit, re.IGNORECASE):
        keys.add(f"currency {subject}")
    for name, words in _MEASURES.items():
        if re.search(rf"(?<!\w)(?:{words})(?!\w)", unit, re.IGNORECASE):
            keys.add(f"{name} {subject}")
    return frozenset(keys or {f"unit {subject}"})
