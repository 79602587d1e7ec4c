"""Words as linking reads them: one spelling, one number, Greek letters by name, hyphens and digits apart.

    >>> words_of("Tumours with α-SMA, Ki67 and Crohn's disease")
    ['tumor', 'with', 'alpha', 'sma', 'ki', '67', 'and', 'crohn', 'disease']

A name and a text go through the same steps, so "Ki-67", "Ki67" and "KI 67" are one name. Letters and digits are
divided; whoever compares must see to it that a match does not end inside a word, or p16 would be found in p160.
Everything is linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

_WORD = re.compile(r"([^\W\d_\u0370-\u03ff]+(?:['\u2019]s(?![^\W_]))?|[\u0370-\u03ff]|\d+)")

_ASCII_WORD = re.compile(r"([A-Za-z]+(?:'s(?![A-Za-z0-9]))?|[0-9]+)")
"""The same for text without other letters, which it reads in half the time."""

# British and older spellings that stand for the same word.
_SPELLINGS = (
    ("tumour", "tumor"), ("colour", "color"), ("fibre", "fiber"), ("centre", "center"), ("grey", "gray"),
    ("haem", "hem"), ("anaem", "anem"), ("oedema", "edema"), ("oesoph", "esoph"), ("leucocyt", "leukocyt"),
    ("leucaem", "leukem"), ("leukaem", "leukem"), ("ischaem", "ischem"), ("caecum", "cecum"), ("caecal", "cecal"),
    ("faec", "fec"), ("coeliac", "celiac"), ("uraem", "urem"), ("rrhoe", "rrhe"), ("isation", "ization"),
    ("ising", "izing"), ("ised", "ized"), ("oestr", "estr"), ("naev", "nev"), ("phaeo", "pheo"), ("aetiol", "etiol"),
    ("artefact", "artifact"), ("mould", "mold"), ("sulph", "sulf"), ("paed", "ped"), ("gynaec", "gynec"),
    ("foet", "fet"), ("goitre", "goiter"), ("favour", "favor"), ("behaviour", "behavior"), ("labell", "label"),
    ("spirochaet", "spirochet"), ("dyspnoea", "dyspnea"), ("neurone", "neuron"), ("litre", "liter"),
    ("aemia", "emia"), ("caesar", "cesar"), ("anaesth", "anesth"), ("haploid", "haploid"), ("apnoea", "apnea"),
)  # fmt: skip
_PLURALS = {
    "nuclei": "nucleus", "nucleoli": "nucleolus", "mitoses": "mitosis", "metastases": "metastasis",
    "diagnoses": "diagnosis", "villi": "villus", "lumina": "lumen", "lumens": "lumen", "septa": "septum",
    "bronchi": "bronchus", "foci": "focus", "bacilli": "bacillus", "thrombi": "thrombus", "emboli": "embolus",
    "fungi": "fungus", "alveoli": "alveolus", "glomeruli": "glomerulus", "acini": "acinus", "canaliculi": "canaliculus",
    "nevi": "nevus", "calculi": "calculus", "sulci": "sulcus", "gyri": "gyrus", "bacteria": "bacterium",
    "criteria": "criterion", "epithelia": "epithelium", "ganglia": "ganglion", "cortices": "cortex",
    "appendices": "appendix", "analyses": "analysis", "crises": "crisis", "testes": "testis", "ova": "ovum",
    "mitochondria": "mitochondrion", "viscera": "viscus", "biopsies": "biopsy", "atria": "atrium", "indices": "index",
    "calices": "calyx", "calyces": "calyx", "larvae": "larva", "teeth": "tooth", "meninges": "meninx",
}  # fmt: skip
_NO_PLURAL = frozenset({"purposes", "glucoses", "discloses", "encloses", "supposes", "composes", "exposes", "proposes"})
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
# "multi-nucleated" and "multinucleated" are one word; "non" is a word of its own, as it denies.
_PREFIXES = frozenset({
    "multi", "pseudo", "micro", "macro", "intra", "extra", "peri", "hyper", "hypo", "neo", "para", "inter", "trans",
    "sub", "supra", "retro", "endo", "lympho", "fibro", "myo", "angio", "immuno", "histo", "cyto", "osteo", "leuko",
    "broncho", "bronchio", "poly", "pre", "post", "mid", "oligo", "uni", "bi",
})  # fmt: skip


def fold(word: str) -> str:
    """One word in lower case, American spelling, singular, without accents, Greek letters by name.

    >>> fold("Tumours"), fold("nuclei"), fold("mitoses"), fold("Hürthle"), fold("β")
    ('tumor', 'nucleus', 'mitosis', 'hurthle', 'beta')
    """
    return _FOLDED[word]


class _Folded(dict[str, str]):
    """Words by how they are written. Emptied when it holds MAX_FOLDED."""

    def __missing__(self, word: str) -> str:
        if len(self) >= MAX_FOLDED:
            self.clear()
        self[word] = folded = _fold(word)
        return folded


MAX_FOLDED = 131072
_FOLDED = _Folded()


def _fold(word: str) -> str:
    if not word.isascii():
        word = _plain_letters(word)
    if len(word) == 3 and word[2] == "s" and word[:2].isupper():
        word = word[:2]  # CKs, LNs
    word = word.casefold()
    if word.endswith("'s"):
        word = word[:-2]
    if len(word) < 4:
        return word
    for old, new in _SPELLINGS:
        if old in word:
            word = word.replace(old, new)
    return _PLURALS.get(word) or _singular(word)


def _plain_letters(word: str) -> str:
    """Compatibility forms and ligatures taken apart, accents dropped, Greek letters by name."""
    word = unicodedata.normalize("NFKC", word).replace("\u2019", "'")
    if word.casefold() in _GREEK:
        return _GREEK[word.casefold()]
    taken = unicodedata.normalize("NFKD", word)
    return unicodedata.normalize("NFC", "".join(c for c in taken if not "\u0300" <= c <= "\u036f"))


def _singular(word: str) -> str:
    if word.endswith("mata") and len(word) > 6:
        return word[:-2]
    if word.endswith("ae") and len(word) > 5:
        return word[:-1]
    if word.endswith("cocci"):
        return word[:-1] + "us"
    if not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("oses") and len(word) > 6 and word not in _NO_PLURAL:
        return word[:-2] + "is"
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1]


_MASKED = frozenset({
    "ALL", "NET", "KIT", "AIDS", "MAY", "CAN", "IS", "AS", "AT", "IT", "OR", "IN", "ON", "BE", "HE", "NO", "SO", "WE",
    "WAS", "FOR", "PET", "CAT", "SET", "ART", "AIM", "END", "MASS", "SIL", "CIS", "MET", "REST", "FAT", "EAR", "HAS",
    "BED", "CAP",
})  # fmt: skip
_QUANTIFIERS = frozenset({
    "ALL", "MAY", "CAN", "IS", "AS", "AT", "IT", "OR", "IN", "ON", "BE", "HE", "NO", "SO", "WE", "WAS", "FOR", "HAS",
    "END", "SET",
})  # fmt: skip
"""Abbreviations that are also words which stand before others: names only where none, or one of these, follows."""
_AFTER_NAME = frozenset({
    "in", "with", "is", "was", "has", "had", "were", "after", "before", "and", "or", "but", "on", "at", "relapse",
    "blast", "cell", "patient", "infiltrate", "involvement", "involving", "therapy", "diagnosed", "treated", "since",
    "now", "not",
})  # fmt: skip


MAX_NAME_CHARS = 200
"""A shorter text is taken for a name, an option or a question, which come back often."""


class Words(NamedTuple):
    """The folded words of a text and their places: word i is text[starts[i]:ends[i]], and gaps[i] stands behind it, up
    to the next word or the end."""

    text: str
    words: list[str]
    starts: list[int]
    ends: list[int]
    gaps: list[str]

    def placed(self) -> Iterator[tuple[str, int, int]]:
        """Every word with its place."""
        return zip(self.words, self.starts, self.ends, strict=True)


def words_of(text: str) -> list[str]:
    """The folded words of a text, in order."""
    return read_words(unicodedata.normalize("NFKC", text) if not text.isascii() else text).words


def name_key(name: str) -> str:
    """What two names are compared by.

    >>> name_key("Squamous-cell carcinomas") == name_key("squamous cell carcinoma")
    True
    """
    return " ".join(words_of(name))


def read_words(text: str) -> Words:
    """Words of a text with their places. Names and short texts are remembered."""
    if len(text) < MAX_NAME_CHARS:
        return _remembered_name(text)
    return _remembered(text) if len(text) < 20_000 else _read(text)


def clear_cache() -> None:
    """Forget all texts, so that a measurement begins anew."""
    _remembered_name.cache_clear()
    _remembered.cache_clear()


def _read(text: str) -> Words:
    parts = (_ASCII_WORD if text.isascii() else _WORD).split(text)  # gap, word, gap, ..., word, gap
    places = list(accumulate(map(len, parts)))
    words = list(map(_FOLDED.__getitem__, parts[1::2]))
    made = Words(text, words, places[:-1:2], places[1::2], parts[2::2])
    if not _PREFIXES.isdisjoint(words):
        _join_prefixes(made)
    return made


_remembered_name = lru_cache(maxsize=16384)(_read)
_remembered = lru_cache(maxsize=256)(_read)


_HYPHENS = frozenset(["-", "\u2010", "\u2011"])


def _is_rest(word: str) -> bool:
    return len(word) > 2 and word.isalpha()


def _join_prefixes(made: Words) -> None:
    """Make one word of "multi-nucleated", in place."""
    _, words, starts, ends, gaps = made
    kept = -1
    skip = False
    for i in range(len(words)):
        if skip:
            skip = False
            continue
        kept += 1
        words[kept], starts[kept], ends[kept], gaps[kept] = words[i], starts[i], ends[i], gaps[i]
        skip = words[i] in _PREFIXES and gaps[i] in _HYPHENS and i + 1 < len(words) and _is_rest(words[i + 1])
        if skip:
            words[kept], ends[kept], gaps[kept] = words[i] + words[i + 1], ends[i + 1], gaps[i + 1]
    for listed in (words, starts, ends, gaps):
        del listed[kept + 1 :]


def in_capitals(words: Words, first: int, last: int) -> bool:
    """Whether an abbreviation stands in capitals, and not as an ordinary word of a line that is all in capitals."""
    raw = words.text[words.starts[first] : words.ends[last]]
    if raw[-1:] == "s" and len(raw) > 2:
        raw = raw[:-1]
    if not raw.isupper():
        return False
    if raw not in _MASKED:
        return True
    if raw in _QUANTIFIERS and words.text[words.ends[last] : words.ends[last] + 1] == " ":
        following = words.text[words.ends[last] + 1 : words.ends[last] + 2]
        if following.isalpha() and words.words[last + 1] not in _AFTER_NAME:
            return False  # "ALL margins are clear"
    beside = [k for k in (first - 1, last + 1) if 0 <= k < len(words.words)]
    around = [words.text[words.starts[k] : words.ends[k]] for k in beside]
    return not any(len(w) > 2 and w.isupper() for w in around)


def is_acronym(name: str) -> bool:
    """Whether a name is written in capitals only, so that a text must write it so too: GIST is no gist."""
    return len(name) <= 5 and name.isalpha() and name.isupper()
