"""The Hugging Face hub: tokenizers and data sets by name. Imports their libraries only when asked.

The libraries retry for 20 to 50 seconds when there is no network. So it is knocked on once before
they start; without an answer a tokenizer is looked for in the cache of this machine only.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import tokenizers

from thalweg.errors import DataError

__all__ = ["hub_data_files", "hub_tokenizer"]

_PATIENCE_SECONDS = 3.0


def hub_tokenizer(
    name: str, *, is_folder: bool = False
) -> tuple[tokenizers.Tokenizer, Mapping[str, object]]:
    """Return the tokenizer and its config that transformers finds under a name or in a folder.

    Raises:
        DataError: No such tokenizer, or it is not on this machine and there is no network.
    """
    from transformers import AutoTokenizer

    local = is_folder or not _reachable()
    try:
        found = AutoTokenizer.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"tokenizer '{name}'" + _because(error),
            expected="bytes, bpe:SIZE, a folder with tokenizer.json, or a name on the hub",
            where=_place(name, local=local),
            write="bytes, bpe:4096, or the path of a folder saved with save_pretrained",
        ) from error
    config: dict[str, object] = {"eos_token": found.eos_token, "chat_template": found.chat_template}
    for token in ("bos_token", "pad_token", "unk_token"):
        config[token] = getattr(found, token)  # attributes that every transformers tokenizer has
    kept = {key: value for key, value in config.items() if value is not None}
    return tokenizers.Tokenizer.from_str(found.backend_tokenizer.to_str()), kept


def hub_data_files(name: str, split: str) -> list[Path]:
    """Return the Arrow files of one split of a data set on the hub, downloaded if need be.

    Raises:
        DataError: `datasets` is not installed, no such data set or split, a slice of one, or no
            network.
    """
    if "[" in split:
        raise _sliced(name, split)
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"data set 'hf:{name}' without the library that reads it",
            expected="the optional package datasets",
            where="this Python environment",
            write="pip install datasets",
        ) from error
    offline = _offline()
    if not offline and not _reachable():
        raise DataError(
            f"data set 'hf:{name}' without network",
            expected="the Hugging Face hub, or a data set that lies on this machine",
            where=f"{_endpoint()}/datasets/{name}",
            write="HF_HUB_OFFLINE=1 before the command to use the cache of this machine, or the "
            "path of a folder saved with save_to_disk",
        )
    try:
        found = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"data set 'hf:{name}', split '{split}'" + _because(error),
            expected="the name of a data set on the Hugging Face hub",
            where=_place(f"datasets/{name}", local=offline),
            write="hf:owner/name:split, or the path of a folder saved with save_to_disk",
        ) from error
    return [Path(file["filename"]) for file in found.cache_files]


def _sliced(name: str, split: str) -> DataError:
    whole = split.partition("[")[0]
    return DataError(
        f"a slice of a data set: 'hf:{name}:{split}'",
        expected="whole splits: their files are read, and a slice has none of its own",
        where="this source",
        write=f"hf:{name}:{whole}; or in Python datasets.load_dataset('{name}', split='{split}')"
        ".save_to_disk('part'), and then the folder 'part'",
    )


def _because(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f" cannot be loaded: {lines[0]}" if lines else " cannot be loaded"


def _place(name: str, *, local: bool) -> str:
    if Path(name).is_dir():
        return name
    return f"{_endpoint()}/{name}" + (" (no network; this machine's cache only)" if local else "")


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "on", "yes", "true")


def _reachable() -> bool:
    """Return whether the hub answers. Behind a proxy that cannot be asked: assume it does."""
    if _offline():
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlsplit(_endpoint())
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        with socket.create_connection((url.hostname or "", port), timeout=_PATIENCE_SECONDS):
            return True
    except OSError:
        return False
