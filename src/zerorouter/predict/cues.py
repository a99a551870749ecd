"""Cue words: which words of a prompt are counted, and in which group.

Each group is one feature, the square root of its count. The groups name kinds of work (a proof, a
rate, a statute, a dosage), not questions of a benchmark; words of a single data set are left out.
Counting phrases beside them ("of the following", "how many") added nothing (decision 0004).
"""

from __future__ import annotations

from typing import Final

_GROUPS: Final[dict[str, str]] = {
    # how the question is put
    "not": "not no never neither nor cannot without none nothing isn't doesn't don't won't can't",
    "except": "except excluding incorrect false least unlikely untrue",
    "true": "true correct correctly statement statements valid",
    "which": "which",
    "what": "what",
    "why": "why reason reasons because",
    "how": "how",
    "who_where": "who whom whose where",
    "when": "when during while until before after",
    "best": "best most likely primarily primary main mainly greatest",
    "should": "should must required need needed ought would could",
    "may": "may might possible possibly can probably perhaps",
    "if": "if suppose assume assuming given whether unless",
    "let": "let denote define defined such satisfies satisfy satisfying",
    "all": "all every each any always both",
    "only": "only exactly unique precisely single",
    "some": "some several many few various another other others",
    "compare": "than compared relative versus whereas difference between differ",
    "more": "more greater larger higher longer bigger increase increases increased rise rises",
    "less": (
        "less fewer smaller lower shorter decrease decreases decreased fall falls reduce reduced"
    ),
    "however": "however although though but yet despite instead rather",
    "therefore": "therefore thus hence then so since consequently implies imply",
    "you": "you your yours we our us",
    "he_she": "he she him her his hers they them their",
    "i": "i my me mine",
    # quantities
    "many": "many number count times",
    "much": "much amount total altogether sum combined",
    "find": "find determine compute calculate evaluate solve",
    "each": "per each every",
    "half": "half third quarter fourth fifth fraction twice double triple thrice dozen",
    "percent": "percent percentage interest rate rates discount profit tax loan annual",
    "money": (
        "dollar dollars cents cost costs price pay pays paid buy buys sell sells sold earn spend"
    ),
    "clock": "hour hours minute minutes second seconds day days week weeks month months",
    "year": "year years age old older younger century decade",
    "length": "meter meters metre cm mm km mile miles inch inches foot feet ft yard yards",
    "mass": "kg gram grams mg pound pounds lb ounce ounces ton mass weight weigh weighs",
    "volume": "liter liters litre gallon gallons ml cup cups volume capacity",
    "left": "left remain remaining rest remainder leftover",
    "numbers": "one two three four five six seven eight nine ten",
    "approximate": "approximately approximate nearest about estimate roughly decimal round rounded",
    # mathematics
    "integer": (
        "integer integers positive digit digits divisible divisor divisors prime primes modulo"
    ),
    "equation": "equation equations roots root polynomial polynomials quadratic coefficient degree",
    "function": "function functions domain range inverse continuous defined",
    "frac": "frac dfrac tfrac over",
    "sqrt": "sqrt cdot times left right",
    "trig": "sin cos tan sine cosine tangent angle angles degrees radians theta pi",
    "geometry": (
        "triangle circle square rectangle polygon radius diameter side sides area perimeter"
    ),
    "space": "point points line plane segment cube sphere cylinder cone parallel perpendicular",
    "calculus": "derivative integral int limit lim converges diverges series infinity infty",
    "algebra": "group ring field matrix vector vectors space linear ideal abelian finite subgroup",
    "probability": "probability random randomly chance expected dice coin coins cards drawn chosen",
    "statistics": "mean median variance deviation sample distribution correlation regression",
    "combinatorics": "ways arrange arrangements permutations combinations distinct subsets choose",
    "proof": "prove proof theorem lemma conjecture show proposition axiom premise logic argument",
    "sequence": "sequence term terms arithmetic geometric consecutive nth sum prod binom",
    "minmax": "maximum minimum largest smallest max min greatest optimal",
    "log": "log ln exp exponential logarithm power",
    # science and engineering
    "physics": "force velocity speed acceleration energy momentum gravity motion friction kinetic",
    "electric": "voltage current resistance circuit electric charge magnetic field ohms volts",
    "waves": "wave wavelength frequency light hz photon electron electrons quantum spin",
    "heat": "temperature heat pressure gas steam entropy thermal ideal adiabatic k",
    "chemistry": (
        "acid base reaction molecule molecular ion ions bond oxidation compound solution mol"
    ),
    "fluid": "flow fluid water pipe air density pump",
    "biology": "cell cells gene genes protein proteins dna species plant plants evolution organism",
    "medicine": "patient disease treatment blood symptoms clinical drug therapy pain infection",
    "mind": "behavior psychology cognitive therapist children child memory emotional theory",
    # society
    "law": "court law defendant plaintiff statute contract liable property crime evidence attorney",
    "court": "held guilty murder jury damages sued testify convicted negligence",
    "economics": "market demand supply goods monopoly elasticity inflation gdp trade currency",
    "finance": "stock bond capital investment shares dividend assets asset accounting balance firm",
    "politics": "government state states political policy rights war president constitution",
    "history": "passage ancient empire historical culture art author according text",
    "philosophy": "moral ethics ethical philosophy argues kant virtue utilitarianism god fallacy",
    "business": "company business customers product products organization management marketing",
    # requests of a chat
    "write": "write create generate compose draft rewrite edit",
    "explain": "explain describe discuss summarize summary analyze define meaning list",
    "translate": "translate translation language english french spanish german chinese japanese",
    "story": "story poem essay letter email article blog song joke character",
    "advice": "recommend suggest help ideas tips plan advice please",
    "format": "json table markdown csv html xml yaml format bullet",
    # code
    "code": "code program python java javascript sql c script algorithm implement api",
    "defs": "def class return import lambda self print",
    "loops": "for while break continue enumerate zip",
    "branches": "elif else try raise not",
    "containers": "list dict array string tuple set str len index",
    "bugs": "error bug exception fix debug traceback fails",
    "complexity": "time complexity binary tree graph node nodes sort sorted search algorithm",
}

CUE_NAMES: Final[tuple[str, ...]] = tuple([f"cue_{name}" for name in _GROUPS])


def _index() -> dict[str, tuple[int, ...]]:
    index: dict[str, tuple[int, ...]] = {}
    for place, words in enumerate(_GROUPS.values()):
        for word in words.split():
            index[word] = (*index.get(word, ()), place)
    return index


CUE_INDEX: Final[dict[str, tuple[int, ...]]] = _index()
