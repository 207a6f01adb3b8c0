"""Text to ids and back, through the `tokenizers` library.

A tokenizer is named by a string: `bytes` (256 ids and an end-of-text), `bpe:4096` (byte-level BPE
trained on the corpus; that includes 256 bytes and the end-of-text), a folder or a `tokenizer.json`
of Hugging Face, or a name on the Hugging Face hub. Text is never searched for special tokens: a
document that contains the words "<|endoftext|>" cannot end itself.

Every store keeps its tokenizer as `tokenizer.json` and `tokenizer_config.json`; transformers loads
that folder with `AutoTokenizer` or `PreTrainedTokenizerFast`. transformers itself is imported only
for hub names, for tokenizers that have no `tokenizer.json`, and to render chat templates.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from thalweg.errors import DataError, did_you_mean

__all__ = [
    "END",
    "LARGEST",
    "Message",
    "Tokenizer",
    "byte_tokenizer",
    "load_tokenizer",
    "train_bpe",
]

END = "<|endoftext|>"
"""The end-of-text of the tokenizers made here."""

LARGEST = 1 << 20
"""Most ids of a BPE trained here: its trainer takes room for all of them at once."""

Message: TypeAlias = Mapping[str, str]
"""One turn of a chat: `role` and `content`."""

_FIRST, _SECOND = ("one two\n", "f(x);\n", "12.\n"), ("three", "/path", "(4)", "\u4e00")
_KNOWN_ENDS = (END, "</s>", "<|end_of_text|>", "<|im_end|>", "<eos>", "<|eos|>", "[SEP]")


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer and its end-of-text id. Equal fingerprints mean equal ids for every text."""

    raw: tokenizers.Tokenizer
    """The tokenizer of the `tokenizers` library."""
    config: Mapping[str, object]
    """What `tokenizer_config.json` holds: `eos_token`, `chat_template`, ..."""

    def __repr__(self) -> str:
        return f"Tokenizer({self.fingerprint})"

    @cached_property
    def end_id(self) -> int:
        """Id that ends a text (and, in a store, opens the next)."""
        return _end_of(self.raw, self.config)

    @cached_property
    def size(self) -> int:
        """Number of ids: one more than the largest."""
        return max(self.raw.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits over the vocabulary, its rules, the end-of-text and how chats are rendered.

        That is the chat template and, where there is one, the tokens it can name.
        """
        template = self.config.get("chat_template")
        parts = [self.raw.to_str(), self.end_id, template, *([self._named] if template else [])]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    @property
    def chat_template(self) -> str | None:
        """Jinja template that turns messages into text, if there is one; of several, the default.

        Raises:
            DataError: Several templates, and none of the name `default`.
        """
        return _template_of(self.config.get("chat_template"))

    @cached_property
    def is_bytes(self) -> bool:
        """Whether id b is byte b: such text is encoded by copying it."""
        return self.fingerprint == byte_tokenizer().fingerprint

    @cached_property
    def splits(self) -> bool:
        """Whether a few texts have the same ids line by line: nothing is put before each."""
        lines = [(first, second) for first in _FIRST for second in _SECOND]
        return all(self.encode(a + b) == self.encode(a) + self.encode(b) for a, b in lines)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of a text, without end-of-text.

        Args:
            text: Any text.
            special: Read "<|...|>" in the text as special tokens: for rendered chats only.

        Example:
            >>> byte_tokenizer().encode("Aa")
            [65, 97]
        """
        raw = self._with_special if special else self._plain
        return list(raw.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[np.ndarray]:
        """Return the ids of many texts, each uint32 [n]; uses all cores."""
        if self.is_bytes and not special:
            return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]
        raw = self._with_special if special else self._plain
        found = raw.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.uint32) for one in found]

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """Return the text of some ids; special tokens are shown unless `special` is False.

        Example:
            >>> byte_tokenizer().decode([72, 105, 256])
            'Hi<|endoftext|>'
        """
        return str(self.raw.decode([int(i) for i in ids], skip_special_tokens=not special))

    def chat(self, messages: Sequence[Message], *, ask: bool = False, where: str = "a chat") -> str:
        """Return the chat as the tokenizer's template renders it.

        Args:
            messages: Turns with `role` and `content`.
            ask: End with the opening of an assistant's turn.
            where: What an error names: the file and line of the chat, say.

        Raises:
            DataError: The tokenizer has no chat template, or one that does not render this chat.
        """
        from jinja2 import TemplateError

        if self.chat_template is None:
            raise DataError(
                "a chat for a tokenizer without a chat template",
                expected="chat_template in tokenizer_config.json",
                where=f"tokenizer {self.fingerprint}",
                write="the tokenizer of an instruction-tuned model, or prompt and answer fields",
            )
        turns = [dict(message) for message in messages]
        try:
            return str(
                self._renderer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise DataError(
                f"a chat template that does not render this chat: {type(error).__name__}: {error}",
                expected="text; roles of the turns: " + ", ".join(turn["role"] for turn in turns),
                where=where,
                write="chats as the template wants them, or another chat_template for the "
                "tokenizer (tokenizer_config.json or chat_template.jinja)",
            ) from error

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into an existing folder."""
        defaults = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.raw.id_to_token(self.end_id),
            "clean_up_tokenization_spaces": False,
        }
        config = json.dumps({**defaults, **self.config}, indent=1, ensure_ascii=False)
        Path(folder, "tokenizer.json").write_text(self.raw.to_str(pretty=True), encoding="utf-8")
        Path(folder, "tokenizer_config.json").write_text(config, encoding="utf-8")

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        return _copy(self.raw, special=False)

    @cached_property
    def _with_special(self) -> tokenizers.Tokenizer:
        return _copy(self.raw, special=True)

    @property
    def _named(self) -> dict[str, str]:
        """Return the tokens that a chat template can name."""
        named = {
            name: text
            for name in ("bos_token", "pad_token", "unk_token")
            if (text := _token_text(self.config.get(name))) is not None
        }
        return {**named, "eos_token": str(self.raw.id_to_token(self.end_id))}

    @cached_property
    def _renderer(self) -> "_Renderer":
        from transformers import PreTrainedTokenizerFast

        renderer: _Renderer = PreTrainedTokenizerFast(
            tokenizer_object=self._with_special, chat_template=self.chat_template, **self._named
        )
        return renderer


@lru_cache(maxsize=1)
def byte_tokenizer() -> Tokenizer:
    """Return the tokenizer named `bytes`: id b is byte b, id 256 is the end of a text."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    return _byte_level(models.BPE(vocab=vocabulary, merges=[]), by_word=False)


def train_bpe(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a byte-level BPE learned from the texts; the same texts give the same tokenizer.

    Args:
        texts: The corpus, or a fair sample of it.
        size: Ids in all, with the 256 bytes and the end-of-text; 257 to 1,048,576. A small
            corpus may have fewer pairs to merge, and then gets fewer ids.

    Raises:
        DataError: `size` is out of range.
    """
    if not 257 <= size <= LARGEST:
        raise DataError(
            f"a BPE of {size} ids",
            expected=f"at least 257 (256 bytes and the end-of-text), at most {LARGEST}",
            where=f"tokenizer='bpe:{size}'",
            write="bpe:4096, or bytes",
        )
    raw = _byte_level(models.BPE(), by_word=True).raw
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=_byte_characters(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return Tokenizer(raw, {"eos_token": END})


def load_tokenizer(spec: str | Path) -> Tokenizer:
    """Return the tokenizer of a spec: `bytes`, a folder, a `tokenizer.json` or a hub name.

    Args:
        spec: Not `bpe:...`, which needs a corpus: see `train_bpe`.

    Raises:
        DataError: Nothing of that name, no end-of-text, or a hub name without network.

    Example:
        >>> load_tokenizer("bytes").size
        257
    """
    text = str(spec)
    if text == "bytes":
        return byte_tokenizer()
    path = Path(text).expanduser()
    if path.is_file():
        path = path.parent if path.name == "tokenizer.json" else path
    if path.is_file() or Path(path, "tokenizer.json").is_file():
        return _from_json(path)
    if text.startswith("bpe:"):
        raise DataError(
            f"tokenizer '{text}' without a corpus",
            expected="a tokenizer that exists already",
            where="load_tokenizer",
            write="build(sources, tokenizer='bpe:4096'), or train_bpe(texts, 4096)",
        )
    if path.is_absolute() and not path.is_dir():
        raise DataError(
            f"no tokenizer: '{text}'",
            expected="a folder with tokenizer.json, or that file",
            where=text,
            write="the folder put back, or the text built again: it comes to the same place",
        )
    from thalweg.data.hub import hub_tokenizer  # transformers: only when asked for

    raw, config = hub_tokenizer(text, is_folder=path.is_dir())
    return _checked(raw, config)


class _Renderer(Protocol):
    """The one method of transformers' tokenizers used here."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> object: ...


def _byte_characters() -> list[str]:
    """Return GPT-2's printable stand-in for each byte, in the order of bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    names = {byte: chr(byte) for byte in shown}
    names.update({byte: chr(256 + place) for place, byte in enumerate(hidden)})
    return [names[byte] for byte in range(256)]


def _byte_level(model: models.BPE, *, by_word: bool) -> Tokenizer:
    raw = tokenizers.Tokenizer(model)
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=by_word)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([tokenizers.AddedToken(END, special=True, normalized=False)])
    return Tokenizer(raw, {"eos_token": END})


def _from_json(path: Path) -> Tokenizer:
    file = path if path.is_file() else path / "tokenizer.json"
    try:
        raw = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise DataError(
            f"a tokenizer file that does not load: {error}",
            expected="tokenizer.json as the tokenizers library writes it",
            where=str(file),
            write="a folder saved with save_pretrained",
        ) from error
    config = _config(file.parent / "tokenizer_config.json")
    template = file.parent / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    return _checked(raw, config)


def _config(file: Path) -> dict[str, object]:
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text("utf-8"))
        given = f"a config that holds {type(config).__name__}"
    except ValueError as error:
        config, given = None, f"a config that is not JSON: {error}"
    if isinstance(config, dict):
        return config
    raise DataError(
        given,
        expected='a JSON object, such as {"eos_token": "</s>"}',
        where=str(file),
        write="the file copied again, or written with save_pretrained",
    )


def _template_of(given: object) -> str | None:
    """Return the chat template of a config: a text, or the default of several with names."""
    if given is None or isinstance(given, str):
        return given
    several: Mapping[object, object] = given if isinstance(given, Mapping) else {}
    if isinstance(given, list):
        named = (entry for entry in given if isinstance(entry, Mapping))
        several = {entry.get("name"): entry.get("template") for entry in named}
    default = several.get("default")
    if isinstance(default, str):
        return default
    raise DataError(
        f"several chat templates: {', '.join(map(str, several)) or type(given).__name__}",
        expected="one of the name default, or a single template",
        where="chat_template in tokenizer_config.json",
        write='"name": "default" for the one to use; or the template alone: "chat_template": "..."',
    )


def _checked(raw: tokenizers.Tokenizer, config: Mapping[str, object]) -> Tokenizer:
    raw.no_truncation()
    raw.no_padding()
    _end_of(raw, config)
    return Tokenizer(raw, config)


def _end_of(raw: tokenizers.Tokenizer, config: Mapping[str, object]) -> int:
    named = _token_text(config.get("eos_token"))
    for token in (named,) if named else _KNOWN_ENDS:
        found = raw.token_to_id(token)
        if found is not None:
            return int(found)
    raise DataError(
        f"a tokenizer without an end-of-text (eos_token: {named!r})",
        expected="eos_token in tokenizer_config.json, one of the tokenizer's tokens",
        where="tokenizer_config.json",
        write='{"eos_token": "..."}; '
        + did_you_mean(named or "eos", [t for t in raw.get_vocab() if t.startswith("<")]),
    )


def _token_text(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _copy(raw: tokenizers.Tokenizer, *, special: bool) -> tokenizers.Tokenizer:
    copy = tokenizers.Tokenizer.from_str(raw.to_str())
    copy.encode_special_tokens = not special
    return copy
