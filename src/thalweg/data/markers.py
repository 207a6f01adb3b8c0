"""Markers: what is known of an example (domain, language, length ...) written beside its text.

In the answer every marker stands, so that the model learns to say what it is about to write; in
the prompt they are dropped at random, twice: with one rate all of an example's, with another each
of those that are left. At inference the prompt may name some, and the model infers the rest. With
no dropout and no markers in the answer it is a domain prefix.

Dropout is drawn anew for each pass over the data: `marked` writes an example once a pass.

Source: arXiv:2506.14702 (training-time markers); the domain prefix is that of arXiv:2404.05405.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from thalweg.core.rng import rng
from thalweg.errors import DataError, DialError, did_you_mean

__all__ = ["Marked", "Markers", "marked"]


class Marked(NamedTuple):
    """An example with its markers."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Markers:
    """Writes the markers of an example into its prompt and before its answer.

    Example:
        >>> prefix = Markers(("domain",), drop_all=0.0, drop_each=0.0, in_answer=False)
        >>> prefix("What is law?", "Rules.", {"domain": "law"}, key=0).prompt
        '<domain>law</domain> What is law?'
    """

    fields: tuple[str, ...]
    """Fields of a record that are markers, in this order."""
    drop_all: float = 0.5
    """Probability that a prompt has no markers at all."""
    drop_each: float = 0.5
    """Probability that a marker of the other prompts is left out."""
    in_answer: bool = True
    """Whether the answer begins with all markers, to be learned."""
    template: str = "<{name}>{value}</{name}>"
    """How one marker is written."""
    join: str = " "
    """What stands between markers, and between them and the text."""

    def __call__(
        self, prompt: str, answer: str, values: Mapping[str, Any], *, key: int, seed: int = 0
    ) -> Marked:
        """Return prompt and answer with their markers.

        Args:
            prompt: As it is without.
            answer: As it is without.
            values: The record; a field that is None has no marker.
            key: Number of the draw: another for each example and pass.
            seed: Of the run.

        Raises:
            DataError: The record lacks a field.
            DialError: A probability outside 0..1.
        """
        for rate in (self.drop_all, self.drop_each):
            if not 0 <= rate <= 1:
                raise DialError(
                    f"a dropout of {rate}",
                    expected="a probability, 0 to 1",
                    where="Markers",
                    write="drop_all=0.5, drop_each=0.5",
                )
        every = [self._one(name, values) for name in self.fields]
        written = [marker for marker in every if marker]
        draw = rng(seed, "markers", key)
        stays = draw.random() >= self.drop_all
        kept = [m for m, u in zip(written, draw.random(len(written)), strict=True) if stays
                and u >= self.drop_each]  # fmt: skip
        before = written if self.in_answer else []
        return Marked(self.join.join([*kept, prompt]), self.join.join([*before, answer]))

    def _one(self, name: str, values: Mapping[str, Any]) -> str:
        if name not in values:
            raise DataError(
                f"a record without the marker '{name}'",
                expected=f"the fields {list(self.fields)}; null where there is none",
                where="Markers.fields",
                write=did_you_mean(name, values),
            )
        value = values[name]
        return "" if value is None else self.template.format(name=name, value=value)


def marked(
    records: Iterable[Mapping[str, Any]],
    markers: Markers,
    *,
    passes: int = 1,
    prompt: str = "prompt",
    answer: str = "answer",
    seed: int = 0,
) -> Iterator[dict[str, str]]:
    """Yield {"prompt", "answer"} of every record, once a pass, each with its own dropout.

    Written as JSON lines they are what `build_pairs` reads; one epoch of that store is `passes`
    passes over the records.

    Args:
        records: Gone through `passes` times.
        markers: What is written, and how often it is dropped.
        passes: Times each record is written.
        prompt: Field of the prompt.
        answer: Field of the answer.
        seed: Of the dropout.

    Example:
        >>> once = Markers(("topic",), drop_all=1.0)
        >>> list(marked([{"prompt": "p", "answer": "a", "topic": "x"}], once))
        [{'prompt': 'p', 'answer': '<topic>x</topic> a'}]
    """
    rows = list(records)
    for number in range(passes * len(rows)):
        row = rows[number % len(rows)]
        found = markers(row[prompt], row[answer], row, key=number, seed=seed)
        yield found._asdict()
