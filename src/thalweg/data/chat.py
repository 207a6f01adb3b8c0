"""Stores of answers: prompt and answer, or chats, with a flag on every id that is to be learned.

How an example is written, with `|` between ids that are encoded apart and `[...]` what is learned:

- prompt and answer, no chat template:   END | prompt + newline | [answer END]
- chat, no chat template:                END | User: ... newline Assistant: | [ ... END] | User: ...
- tokenizer with a chat template:        what the template gives; learned is each assistant's turn
  up to where the next begins, and an END after the last if the template puts none.

A prompt for a model trained on the first two starts with the end-of-text, as every document does.
Of a preference the better and the worse answer are one document, each written as above with its
prompt before it; of chats, only the last turn is learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from thalweg.data.build import Built, bpe_size, build_with
from thalweg.data.encode import Piece
from thalweg.data.files import Segment, Sources, kind_of
from thalweg.data.read import Record, locate, text_of
from thalweg.data.tokenizer import Message, Tokenizer, load_tokenizer
from thalweg.errors import DataError

__all__ = ["PLAIN_TEMPLATE", "build_pairs", "build_preferences"]

PLAIN_TEMPLATE = "{prompt}\n{answer}"
"""How prompt and answer are joined when the tokenizer has no chat template."""


def build_pairs(
    sources: Sources,
    *,
    tokenizer: str | Path = "bytes",
    prompt: str = "prompt",
    answer: str = "answer",
    messages: str | None = None,
    template: str | None = None,
    held_out: float = 0.0,
    home: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Built:
    """Return the stores of these examples for `Pairs`, made now or found.

    Args:
        sources: As in `build`, but of records only: JSON lines, parquet, saved data sets.
        tokenizer: As in `build`.
        prompt: Field of the prompt.
        answer: Field of the answer.
        messages: Field of a chat, a list of {"role", "content"}; instead of prompt and answer.
        template: `{prompt}` before `{answer}`; default: the chat template, else `PLAIN_TEMPLATE`.
        held_out: Share kept apart, by the hash of what stands before the first answer.
        home: As in `build`.
        workers: As in `build`.
        progress: As in `build`.

    Raises:
        DataError: Records without these fields, a chat without an assistant, or plain texts.
    """
    known = str(tokenizer) if bpe_size(str(tokenizer)) else load_tokenizer(tokenizer)
    return build_with(
        sources,
        render=_rendering(known, prompt, answer, messages, template),
        tokenizer=known,
        held_out=held_out,
        home=home,
        workers=workers,
        progress=progress,
    )


def build_preferences(
    sources: Sources,
    *,
    tokenizer: str | Path = "bytes",
    prompt: str | None = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    template: str | None = None,
    held_out: float = 0.0,
    home: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Built:
    """Return the stores of these preferences for `Preferences`, made now or found.

    Args:
        sources: As in `build_pairs`.
        tokenizer: As in `build`.
        prompt: Field of the prompt; None where both answers are chats, lists of turns.
        chosen: Field of the better answer, or of the chat that ends with it.
        rejected: Field of the worse.
        template: As in `build_pairs`.
        held_out: Share kept apart, by the hash of the prompt or of the better chat's start.
        home: As in `build`.
        workers: As in `build`.
        progress: As in `build`.

    Raises:
        DataError: As `build_pairs`.
    """
    known = str(tokenizer) if bpe_size(str(tokenizer)) else load_tokenizer(tokenizer)
    return build_with(
        sources,
        render=_Two(
            _half(known, prompt, chosen, template, "chosen"),
            _half(known, prompt, rejected, template, "rejected"),
        ),
        tokenizer=known,
        held_out=held_out,
        home=home,
        workers=workers,
        progress=progress,
    )


def _rendering(
    known: Tokenizer | str, prompt: str, answer: str, messages: str | None, template: str | None
) -> "_Answers | _Chats":
    if messages is None and template is not None:
        return _Answers(prompt, answer, _checked(template or PLAIN_TEMPLATE), None)
    chats = known if isinstance(known, Tokenizer) and known.chat_template is not None else None
    if messages is not None:
        return _Chats(messages, chats)
    return _Answers(prompt, answer, PLAIN_TEMPLATE, chats)


def _half(
    known: Tokenizer | str, prompt: str | None, answer: str, template: str | None, option: str
) -> "_Answers | _Chats":
    """Return how one answer of two is written, with its prompt or as the end of a chat."""
    whole = _rendering(known, prompt or "", answer, None if prompt else answer, template)
    options = (option,) if isinstance(whole, _Chats) else ("prompt", option)
    return replace(whole, options=options)


@dataclass(frozen=True)
class _Answers:
    """Prompt and answer."""

    prompt: str
    answer: str
    template: str
    chats: Tokenizer | None
    options: tuple[str, ...] = field(default=("prompt", "answer"), repr=False)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.prompt, self.answer)

    @property
    def special(self) -> bool:
        return self.chats is not None

    @property
    def separated(self) -> bool:
        return self.chats is None

    @property
    def weighs(self) -> bool:
        return True

    def pieces(self, record: Record, segment: Segment) -> tuple[str, Sequence[Piece]]:
        _check_records(segment)
        prompt = text_of(record, segment, self.prompt, 0)
        answer = text_of(record, segment, self.answer, 1)
        if self.chats is not None:
            turns = [_turn("user", prompt), _turn("assistant", answer)]
            return prompt, _templated(turns, self.chats, locate(segment, record.place))
        before, after = self.template.split("{answer}")
        before = before.replace("{prompt}", prompt)
        return prompt, [Piece(before, learned=False), Piece(answer + after, ends=True)]


@dataclass(frozen=True)
class _Chats:
    """A list of turns."""

    messages: str
    chats: Tokenizer | None
    options: tuple[str, ...] = field(default=("messages",), repr=False)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.messages,)

    @property
    def special(self) -> bool:
        return self.chats is not None

    @property
    def separated(self) -> bool:
        return self.chats is None

    @property
    def weighs(self) -> bool:
        return True

    def pieces(self, record: Record, segment: Segment) -> tuple[str, Sequence[Piece]]:
        _check_records(segment)
        where = locate(segment, record.place)
        turns = _turns(record.values[0], where)
        if self.chats is None:
            pieces = _written_out(turns)
        else:
            pieces = _templated(turns, self.chats, where)
        return pieces[0].text, pieces


@dataclass(frozen=True)
class _Two:
    """The better answer with its prompt, then the worse with its own."""

    better: "_Answers | _Chats"
    worse: "_Answers | _Chats"

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self._asked)

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(self._asked.values())

    @property
    def _asked(self) -> dict[str, str]:
        halves = (self.better, self.worse)
        return {f: o for h in halves for f, o in zip(h.fields, h.options, strict=True)}

    @property
    def special(self) -> bool:
        return self.better.special

    @property
    def separated(self) -> bool:
        return self.better.separated

    @property
    def weighs(self) -> bool:
        return True

    def pieces(self, record: Record, segment: Segment) -> tuple[str, Sequence[Piece]]:
        values = dict(zip(self.fields, record.values, strict=True))

        def half(render: _Answers | _Chats) -> tuple[str, Sequence[Piece]]:
            mine = tuple(values[name] for name in render.fields)
            return render.pieces(record._replace(values=mine), segment)

        (key, better), (_, worse) = half(self.better), half(self.worse)
        opening = [Piece("", learned=False, ends=True)] if self.separated else []
        return key, [*_last_only(better), *opening, *_last_only(worse)]


def _last_only(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with all but the last not to be learned."""
    return [*(piece._replace(learned=False) for piece in pieces[:-1]), pieces[-1]]


def _written_out(turns: Sequence[Message]) -> list[Piece]:
    pieces: list[Piece] = []
    waiting = ""
    for turn in turns:
        waiting += f"{turn['role'].capitalize()}:"
        if turn["role"] == "assistant":
            pieces += [Piece(waiting, learned=False), Piece(f" {turn['content']}", ends=True)]
            waiting = ""
        else:
            waiting += f" {turn['content']}\n"
    return pieces


def _templated(turns: Sequence[Message], chats: Tokenizer, where: str) -> list[Piece]:
    pieces: list[Piece] = []
    done = ""
    for number, turn in enumerate(turns):
        if turn["role"] == "assistant":
            asked = chats.chat(turns[:number], ask=True, where=where)
            told = chats.chat(turns[: number + 1], where=where)
            if not (asked.startswith(done) and told.startswith(asked)):
                raise DataError(
                    "a chat template that rewrites earlier turns, so answers cannot be told apart",
                    expected="a template that only adds at the end",
                    where=where,
                    write="chats of one turn, or template='{prompt}\\n{answer}' with two fields",
                )
            pieces.append(Piece(asked[len(done) :], learned=False))
            pieces.append(Piece(told[len(asked) :]))
            done = told
    end = str(chats.raw.id_to_token(chats.end_id))
    return [*pieces[:-1], pieces[-1]._replace(ends=end not in pieces[-1].text)]


def _turns(value: object, where: str) -> list[Message]:
    turns = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    fine = all(
        isinstance(turn, Mapping)
        and isinstance(turn.get("role"), str)
        and isinstance(turn.get("content"), str)
        for turn in turns
    )
    if not fine or not any(turn["role"] == "assistant" for turn in turns):
        raise DataError(
            f"a chat that has no assistant's turn or is no list of turns: {str(value)[:80]}",
            expected='[{"role": "user", "content": "..."}, {"role": "assistant", "content": ...}]',
            where=where,
            write="leave the record out, or messages='...' with the field of the chat",
        )
    last = max(i for i, turn in enumerate(turns) if turn["role"] == "assistant")
    return [_turn(turn["role"], turn["content"]) for turn in turns[: last + 1]]


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _check_records(segment: Segment) -> None:
    if segment.kind == "text":
        raise DataError(
            f"plain text where prompts and answers are needed: {segment.path.name}",
            expected=".jsonl, .ndjson (.gz, .zst), .parquet, or a saved data set",
            where=str(segment.path),
            write=f"a file of records ({kind_of(segment.path)} has no fields)",
        )


def _checked(template: str) -> str:
    halves = template.split("{answer}")
    if len(halves) != 2 or "{prompt}" not in halves[0]:
        raise DataError(
            f"template {template!r}",
            expected="{prompt} and behind it, once, {answer}",
            where="build_pairs(template=...)",
            write=f"template={PLAIN_TEMPLATE!r}",
        )
    return template
