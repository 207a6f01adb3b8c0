"""People who do not exist, in English: a sentence for each fact, worded anew at every exposure.

    Anela Doru Kevamo was born on May 4, 1987. She studied at the University of Rimol. ...

A life is a name and seven facts: birth date, birth city, university, major, company, the city of
the company (which follows from the company and so says nothing), and the pronoun. Sentences come
in a new order and in one of several wordings each time, so what is learned is the fact and not the
text. The paper's numbers of names and values are kept; the names themselves are syllables drawn
here, and there are six wordings a fact instead of some fifty.

Source: arXiv:2404.05405, section 2 (bioS). See `Biographies` for the form without English.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, State
from thalweg.core.rng import rng
from thalweg.core.time import Time
from thalweg.data.biographies import Asked
from thalweg.data.order import shuffled
from thalweg.data.tokenizer import load_tokenizer
from thalweg.errors import DataError
from thalweg.laws.capacity import BIOGRAPHY_BITS, BIOGRAPHY_NAMES

__all__ = ["Life", "Lives", "Piece"]

FIRST, MIDDLE, LAST = 400, 400, 1000
CITIES, UNIVERSITIES, MAJORS, COMPANIES = 200, 300, 100, 263
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
DAYS, YEAR, YEARS = 28, 1900, 200

WORDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "born": (
        (" was born on ", "."), (" came into this world on ", "."), ("'s life began on ", "."),
        (" has a birthday on ", "."), (" was delivered on ", "."), (" first saw light on ", "."),
    ),
    "from": (
        (" was born in ", "."), (" spent the early years in ", "."), (" grew up in ", "."),
        (" comes from ", "."), (" was a child in ", "."), (" is a native of ", "."),
    ),
    "university": (
        (" studied at the University of ", "."), (" went to the University of ", "."),
        (" took a degree at the University of ", "."), (" attended the University of ", "."),
        (" was taught at the University of ", "."), (" graduated from the University of ", "."),
    ),
    "major": (
        (" majored in ", "."), (" chose the field of ", "."), (" has a degree in ", "."),
        (" was trained in ", "."), (" specialised in ", "."), (" wrote a thesis on ", "."),
    ),
    "company": (
        (" works for ", "."), (" is employed by ", "."), (" has a position at ", "."),
        (" was hired by ", "."), (" earns a living at ", "."), (" is on the staff of ", "."),
    ),
    "city": (
        (" lives and works in ", "."), (" has an office in ", "."), (" is based in ", "."),
        (" was sent to ", "."), (" moved for the job to ", "."), (" has a desk in ", "."),
    ),
}  # fmt: skip
"""Of each fact, what stands before the value and behind it; the subject stands first."""


class Piece(NamedTuple):
    """A stretch of a text."""

    text: str
    kind: str
    """name, value, or text: what is known once the rest is."""


class Life(NamedTuple):
    """What there is to know of a person."""

    name: str
    pronoun: str
    facts: Mapping[str, str]


class _Row(NamedTuple):
    """A life as tokens."""

    tokens: np.ndarray
    """int64 [T]."""
    counts: np.ndarray
    """bool [T - 1]: targets of the text and its end."""
    kinds: np.ndarray
    """int64 [T - 1]: 1 for targets of the name, 2 for those of values."""


@dataclass(frozen=True)
class Lives:
    """Lives drawn by `key`, one a row; wording and order by the run's seed.

    Example:
        >>> lives = Lives(people=50)
        >>> "".join(piece.text for piece in lives.pieces(3, exposure=0, seed=0))[:43]
        'Gago Tupu Bipi has a degree in tipadaology.'
    """

    people: int
    """N, each with a name of its own."""
    tokenizer: str = "bytes"
    length: int = 384
    """Targets of a row; a longer life is refused: of the first 64 people at the start, of others
    when they come. In bytes most have 260 to 330."""
    key: int = 0
    """Which people."""
    shuffle: bool = True
    """Whether rows and sentences come in a new order and wording at every exposure."""
    name: str = "lives"

    makes: ClassVar[tuple[str, ...]] = ("tokens", "weight", "source", "id")
    all_names: ClassVar[float] = BIOGRAPHY_NAMES
    attribute_bits: ClassVar[float] = BIOGRAPHY_BITS
    offline: ClassVar[bool] = True
    """No model writes its rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def row_tokens(self) -> int:
        """Places of a row that could hold a target."""
        return self.length

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return load_tokenizer(self.tokenizer).size

    @property
    def sizes(self) -> Mapping[str, int]:
        """Places of one exposure of all people."""
        return {self.name: self.people * self.length}

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the share of rows of each name: all."""
        return {self.name: 1.0}

    def life(self, person: int) -> Life:
        """Return what there is to know of a person, counted from 0."""
        name, sex, draws = _drawn(self.people, self.key)
        words = _words()
        born, city, university, major, company = draws[person].tolist()
        month, day = divmod(born // YEARS, DAYS)
        facts = {
            "born": f"{MONTHS[month]} {day + 1}, {YEAR + born % YEARS}",
            "from": words["city"][city],
            "university": words["university"][university],
            "major": words["major"][major],
            "company": words["company"][company],
            "city": words["city"][int(_cities()[company])],
        }
        first, rest = divmod(int(name[person]), MIDDLE * LAST)
        middle, last = divmod(rest, LAST)
        parts = (words["first"][first], words["middle"][middle], words["last"][last])
        return Life(" ".join(parts), ("He", "She")[int(sex[person])], facts)

    def pieces(self, person: int, exposure: int, seed: int) -> list[Piece]:
        """Return the text of a life at an exposure, cut where what is counted begins and ends."""
        life = self.life(person)
        order, wording = list(WORDINGS), [0] * len(WORDINGS)
        if self.shuffle:
            draw = rng(seed, self.name, "wording", exposure, person)
            order = [order[place] for place in draw.permutation(len(order))]
            wording = draw.integers(6, size=len(order)).tolist()
        found = [Piece(life.name, "name")]
        for place, (fact, which) in enumerate(zip(order, wording, strict=True)):
            before, behind = WORDINGS[fact][which]
            if place:
                found += [Piece(" ", "text"), Piece(life.pronoun, "value")]
                before = before.replace("'s life began on", " began life on")
            kind = "text" if fact == "city" else "value"
            found += [Piece(before, "text"), Piece(life.facts[fact], kind), Piece(behind, "text")]
        return found

    def start(self, ctx: Context) -> State:
        """Return the state before the first row: its number.

        Raises:
            DataError: Nobody, more people than names, or rows shorter than the lives.
        """
        if not 1 <= self.people <= BIOGRAPHY_NAMES or self.length < 2:
            raise DataError(
                f"{self.people} people, rows of {self.length}",
                expected=f"1 to {BIOGRAPHY_NAMES:g} people, rows of 2 or more",
                where="Lives",
                write="Lives(people=1000, length=384)",
            )
        for person in range(min(self.people, 64)):
            self._row(person, 0, ctx.seed)
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next rows: a life each, its end, and nothing that counts behind it.

        Raises:
            DataError: A life longer than a row.
        """
        first = int(state["row"])
        ids = np.arange(first, first + ctx.rows)
        place = shuffled(ids, self.people, ctx.seed, self.name if self.shuffle else None)
        rows = [
            self._row(person, exposure, ctx.seed)
            for person, exposure in zip(place.tolist(), (ids // self.people).tolist(), strict=True)
        ]
        columns = {
            "tokens": torch.from_numpy(np.stack([row.tokens for row in rows])),
            "weight": torch.from_numpy(np.stack([row.counts for row in rows])).float(),
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
            "id": torch.from_numpy(ids),
        }
        return Batch(columns), {"row": first + ctx.rows}

    def asked(self, rows: int, ctx: Context) -> Asked:
        """Return the first people in the fixed wording, and which targets are names and values."""
        fixed = replace(self, shuffle=False)
        batch, _ = fixed.next({"row": 0}, replace(ctx, rows=min(rows, self.people)))
        made = [fixed._row(person, 0, ctx.seed) for person in range(batch.rows)]
        masks = (torch.from_numpy(np.stack([row.kinds == kind for row in made])) for kind in (1, 2))
        return Asked(batch, *masks)

    def _row(self, person: int, exposure: int, seed: int) -> _Row:
        tokenizer = load_tokenizer(self.tokenizer)
        pieces = self.pieces(person, exposure, seed)
        ids = [tokenizer.encode(piece.text) for piece in pieces]
        kinds = [("text", "name", "value").index(piece.kind) for piece in pieces]
        count = sum(map(len, ids))
        if count + 1 > self.length:
            raise DataError(
                f"a life of {count + 1} targets in rows of {self.length}",
                expected="rows as long as the longest life",
                where=f"{self.name}.length",
                write=f"Lives(people={self.people}, length={count + 64})",
            )
        tokens = np.full(self.length + 1, tokenizer.end_id, np.int64)
        tokens[1 : count + 1] = np.concatenate(ids)
        marks = np.zeros(self.length, np.int64)
        marks[:count] = np.repeat(kinds, [len(one) for one in ids])
        return _Row(tokens, np.arange(self.length) <= count, marks)


@lru_cache(maxsize=4)
def _drawn(people: int, key: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of names [N], of pronouns [N], and of values [N, 5]."""
    draw = rng(key, "lives")
    numbers = draw.choice(FIRST * MIDDLE * LAST, people, replace=False, shuffle=True)
    sizes = (len(MONTHS) * DAYS * YEARS, CITIES, UNIVERSITIES, MAJORS, COMPANIES)
    return numbers, draw.integers(2, size=people), draw.integers(sizes, size=(people, len(sizes)))


@lru_cache(maxsize=1)
def _words() -> Mapping[str, tuple[str, ...]]:
    """Return the names of everything, the same in every world."""
    used: set[str] = set()
    ends = {"university": "", "major": "ology", "company": " Corp", "city": ""}
    counts = {"first": FIRST, "middle": MIDDLE, "last": LAST, "city": CITIES,
              "university": UNIVERSITIES, "major": MAJORS, "company": COMPANIES}  # fmt: skip
    found = {}
    for kind, count in counts.items():
        draw, words = rng(0, "words", kind), list[str]()
        while len(words) < count:
            word = "".join(
                "bdfghjklmnprstvwz"[int(draw.integers(17))] + "aeiou"[int(draw.integers(5))]
                for _ in range(2 + int(draw.integers(2)))
            )
            if word not in used:
                used.add(word)
                made = word + ends.get(kind, "")
                words.append(made if kind == "major" else made.title())
        found[kind] = tuple(words)
    return found


@lru_cache(maxsize=1)
def _cities() -> np.ndarray:
    """Return the city of each company."""
    return rng(0, "cities of companies").integers(CITIES, size=COMPANIES)
