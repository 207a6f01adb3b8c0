"""A vLLM server writes the answers: its completions API, over the standard library.

What is done: token ids go in and come out (`return_token_ids`), with the log-prob of each; every
prompt is one request for the whole group, several at a time; whatever fails is tried again. When
the actor's weights differ from those last published, they are written as a folder that
transformers and vLLM load, and the server is asked to load them and to forget its prefix cache.
The mark of what was published lies beside the folders, so a resumed run publishes exactly when
the weights it goes on with are not the ones the mark names. The folder before the last stays,
older ones are deleted.

What is not done: weights travel through a shared file system, not through NCCL; the server must
be started by hand, on the folder `latest` if it is started in the middle of a run; it is not
paused while a step trains; `seed` makes its answers repeatable only as far as its batches are.

Start it with `VLLM_SERVER_DEV_MODE=1 vllm serve FOLDER`, and with
`--logprobs-mode processed_logprobs` for any temperature but 1.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thalweg.core.learner import Learner
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError
from thalweg.models import Decoder, HuggingFace, export
from thalweg.models.lora import plain_weights
from thalweg.rollouts.cache import twin
from thalweg.rollouts.engine import Answer
from thalweg.rollouts.http import call
from thalweg.rollouts.sampling import Sampling

__all__ = ["Vllm", "weights_digest"]

_PAUSES = (0.1, 1.0, 5.0)
"""Seconds before each further try."""
_START = "VLLM_SERVER_DEV_MODE=1 vllm serve FOLDER --served-model-name NAME"


@dataclass(frozen=True, kw_only=True)
class Vllm:
    """Where a vLLM server listens, and where it finds weights.

    Example:
        >>> Vllm(model="policy", folder="/shared/weights").url
        'http://127.0.0.1:8000'
    """

    model: str
    """Its name on the server (`--served-model-name`)."""
    folder: str
    """Where weights are written; the server must see it under the same path."""
    url: str = "http://127.0.0.1:8000"
    """Without `/v1`."""
    tokenizer: str | None = None
    """Folder of tokenizer files that are copied beside the weights."""
    key_variable: str = "VLLM_API_KEY"
    """Environment variable of the key that the server wants, if any."""
    parallel: int = 32
    """Most requests at a time."""
    seconds: float = 600.0
    """Most time of a request."""

    def check(self) -> None:
        """Refuse a server that does not answer or does not serve the model.

        Raises:
            RecipeError: Says what it answered.
        """
        served = [one["id"] for one in self._call("/v1/models", None)["data"]]
        if self.model not in served:
            raise _refusal(self.url, f"a server of {served}", f"one that serves '{self.model}'")

    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        how: Sampling,
        *,
        group: int,
        keys: Sequence[int],
        first: int,
        seed: int,
        end_id: int,
        longest: int,
    ) -> list[list[Answer]]:
        """Return `group` answers to each prompt; arguments as those of `generate`."""
        bodies = [
            {
                "model": self.model,
                "prompt": [*prompt],
                "n": group,
                "max_tokens": min(int(how.new_tokens), longest - len(prompt)),
                "temperature": float(how.temperature),
                "seed": key_seed(seed, "answer", int(key), first) >> 33,
                "stop_token_ids": [end_id, *how.stop_ids],
                "stop": [*how.stop],
                "include_stop_str_in_output": True,
                "skip_special_tokens": False,
                "logprobs": 0,
                "return_token_ids": True,
            }
            for prompt, key in zip(prompts, keys, strict=True)
        ]
        with ThreadPoolExecutor(self.parallel) as pool:
            replies = list(pool.map(partial(self._call, "/v1/completions"), bodies))
        return [self._read(reply, group) for reply in replies]

    def publish(self, learner: Learner, version: int) -> None:
        """Bring the actor's weights to the server, unless they are there.

        Args:
            learner: The actor.
            version: The step its weights are from; names the folder.
        """
        with learner.averaged(), learner.world.whole(learner.module), torch.no_grad():
            learner.world.from_main(lambda: self._publish(learner.module, version))

    def _publish(self, module: nn.Module, version: int) -> None:
        home = Path(self.folder)
        home.mkdir(parents=True, exist_ok=True)
        mark = {"version": version, "digest": weights_digest(module)}
        published = home / "published.json"
        old = json.loads(published.read_text()) if published.exists() else {}
        if old.items() >= mark.items():
            return
        target = home / f"version-{version}"
        if isinstance(module, Decoder):
            export(twin(module), module.spec, target, self.tokenizer)
        else:
            export(module, HuggingFace(str(target)), target, self.tokenizer)
        self._link(home, target)
        self._call("/collective_rpc", _reload(target))
        self._call("/reset_prefix_cache", {})
        if old.get("before") not in (None, version, old.get("version")):
            shutil.rmtree(home / f"version-{old['before']}", ignore_errors=True)
        published.write_text(json.dumps(mark | {"before": old.get("version")}))

    def _link(self, home: Path, target: Path) -> None:
        fresh = home / "latest.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target.resolve())
        fresh.replace(home / "latest")

    def _read(self, reply: Mapping[str, Any], group: int) -> list[Answer]:
        choices = sorted(reply.get("choices", ()), key=lambda choice: int(choice["index"]))
        found = []
        for choice in choices:
            tokens = choice.get("token_ids")
            logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
            if tokens is None or logprobs is None or len(tokens) != len(logprobs):
                raise _refusal(
                    f"{self.url}/v1/completions",
                    f"an answer with the keys {sorted(choice)}",
                    "token_ids and as many token_logprobs: vLLM 0.10.2 or newer",
                )
            finished = choice["finish_reason"] == "stop"
            found.append(Answer([*tokens], [float(one) for one in logprobs], finished))
        if len(found) != group:
            given = f"{len(found)} answers to a request for {group}"
            raise _refusal(f"{self.url}/v1/completions", given, "as many as asked for")
        return found

    def _call(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the reply; None sends nothing. Try again after what may pass."""
        return call(
            self.url + path,
            body,
            expected="a vLLM server that answers",
            write=_START,
            key_variable=self.key_variable,
            seconds=self.seconds,
            pauses=_PAUSES,
        )


def _reload(folder: Path) -> dict[str, Any]:
    return {"method": "reload_weights", "kwargs": {"weights_path": str(folder.resolve())}}


def weights_digest(module: nn.Module) -> str:
    """Return a fingerprint of the weights, 32 hex digits: of at most 4,096 numbers of each."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(plain_weights(module).items()):
        flat = weight.flatten()
        some = flat[:: max(1, flat.numel() // 4096)].float().cpu()
        digest.update(name.encode() + some.numpy().tobytes())
    return digest.hexdigest()


def _refusal(where: str, given: str, expected: str) -> RecipeError:
    return RecipeError(
        given,
        expected=expected,
        where=where,
        write=_START,
    )
