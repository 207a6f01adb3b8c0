"""Any `AutoModelForCausalLM` of transformers behind our forward contract.

Use it for models that `Pretrained` refuses. Limits: the logits are held whole, because some
families scale or cap them after the head; a balance loss that the model adds by itself is left
out; rows of several documents need a model whose attention takes a mask for each pair of
positions. Whether it does is tried on four tokens when the model is built, not guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from thalweg.core.protocols import Scored
from thalweg.core.rng import key_seed
from thalweg.errors import DataError, RecipeError
from thalweg.models.hub import locate

__all__ = ["HuggingFace", "Wrapped"]

# R rows, T positions, V vocabulary.


@dataclass(frozen=True)
class HuggingFace:
    """A model that transformers runs.

    Raises:
        DataError: Neither a folder nor a model that can be had.
    """

    folder: str
    """A local folder, or a name on the Hugging Face hub."""
    fresh: bool = False
    """Draw new weights for the folder's configuration instead of loading its own."""

    @property
    def vocabulary(self) -> int:
        """Token ids it accepts."""
        return int(_text_config(self.folder).vocab_size)

    @property
    def positions(self) -> int:
        """Longest row it accepts; 0 where its configuration names none."""
        return int(getattr(_text_config(self.folder), "max_position_embeddings", None) or 0)

    def build(self, seed: int) -> "Wrapped":
        """Return the module in float32; the seed draws weights only if they are `fresh`."""
        from transformers import AutoModelForCausalLM

        config = _config(self.folder)
        if self.fresh:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(key_seed(seed, "weights"))
                return Wrapped(AutoModelForCausalLM.from_config(config).float())
        place = locate(self.folder)
        try:
            inner = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise _unreadable(place, error) from error
        return Wrapped(inner)


class Wrapped(nn.Module):
    """A causal language model of transformers, called as `Decoder` is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.train()
        self.isolates = _isolates(inner)
        self.window = _window(inner)

    @property
    def vocabulary(self) -> int:
        """Token ids it accepts."""
        return int(self.inner.config.get_text_config().vocab_size)  # type: ignore[union-attr, operator]

    @property
    def positions(self) -> int:
        """Longest row it accepts; a very large number where its configuration names none."""
        named = getattr(self.inner.config.get_text_config(), "max_position_embeddings", None)  # type: ignore[union-attr, operator]
        return int(named or 1 << 62)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The layers: the longest list of equal modules."""
        lists = [list(part) for part in self.inner.modules() if isinstance(part, nn.ModuleList)]
        return max(lists, key=len, default=[])

    def forward(
        self,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | None = None,
        *,
        targets_RT: torch.Tensor | None = None,
        weight_RT: torch.Tensor | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
        hidden: bool = False,
    ) -> torch.Tensor | Scored:
        """Return logits, or the log-probs of targets, or with weights their loss.

        Args:
            tokens_RT: int64 [R, T].
            document_RT: int32 [R, T], or None for one document a row.
            targets_RT: int64 [R, T]: the token that follows each.
            weight_RT: float32 [R, T]: what each target counts in the loss.
            temperature: Logits are divided by it, above 0.
            entropy: Whether the entropies are wanted too; with targets and without weights.
            hidden: Whether what the head multiplies is wanted [R, T, D]: with the scores, or,
                without targets, alone.

        Returns:
            Logits [R, T, V]; with targets Scored(loss, logprobs_RT, entropy_RT), float32, nats.

        Raises:
            RecipeError: Documents are given to a model that cannot keep them apart.
        """
        if document_RT is not None and not (self.isolates and tokens_RT.shape[1] <= self.window):
            raise RecipeError(
                f"rows of {tokens_RT.shape[1]} tokens with documents, {type(self.inner).__name__}",
                expected="a model that takes a mask for each pair of positions, and rows no "
                "longer than its sliding window",
                where="HuggingFace",
                write="a source that puts one document in a row, without a document column",
            )
        logits_RTV, shown_RTD = _logits(self.inner, tokens_RT, document_RT, hidden=hidden)
        if targets_RT is None and shown_RTD is not None:
            return shown_RTD
        if temperature != 1.0:
            logits_RTV = logits_RTV / temperature
        if targets_RT is None:
            return logits_RTV
        if entropy:
            log_share_RTV = logits_RTV.log_softmax(-1, dtype=torch.float32)
            logprobs_RT = log_share_RTV.gather(-1, targets_RT[..., None])[..., 0]
            entropy_RT = -(log_share_RTV.exp() * log_share_RTV).sum(-1)
            return Scored(None, logprobs_RT, entropy_RT, (), shown_RTD)
        nats = functional.cross_entropy(
            logits_RTV.flatten(0, 1).float(), targets_RT.flatten(), reduction="none"
        )
        logprobs_RT = -nats.view_as(targets_RT)
        if weight_RT is None:
            return Scored(None, logprobs_RT, None, (), shown_RTD)
        loss = -(weight_RT * logprobs_RT).sum()
        return Scored(loss, logprobs_RT.detach(), None, (), shown_RTD)

    def flops(self, length: int) -> float:
        """Return about the matmul FLOPs of training on one token: 6 a matrix weight, and attention.

        Every expert of a mixture is counted.
        """
        weights = sum(part.numel() for part in self.inner.parameters() if part.ndim >= 2)
        weights -= sum(
            part.weight.numel() for part in self.inner.modules() if isinstance(part, nn.Embedding)
        )
        head = self.inner.get_output_embeddings()  # type: ignore[operator]  # PreTrainedModel's
        if head is not None and head.weight is self.inner.get_input_embeddings().weight:  # type: ignore[operator]
            weights += head.weight.numel()
        width: int = self.inner.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        return 6.0 * weights + 6.0 * len(self.blocks) * width * length


def _logits(
    inner: nn.Module,
    tokens_RT: torch.Tensor,
    document_RT: torch.Tensor | None,
    *,
    hidden: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return logits [R, T, V] and, if asked for, the last hidden states [R, T, D].

    With documents each starts at position 0 and sees itself only.
    """
    if document_RT is None:
        plain = inner(input_ids=tokens_RT, use_cache=False, output_hidden_states=hidden)
        return plain.logits, plain.hidden_states[-1] if hidden else None
    place_T = torch.arange(tokens_RT.shape[1], device=tokens_RT.device)
    fresh_RT = torch.ones_like(document_RT, dtype=torch.bool)
    fresh_RT[:, 1:] = document_RT[:, 1:] != document_RT[:, :-1]
    start_RT = torch.where(fresh_RT, place_T, 0).cummax(1).values
    seen_RTT = (document_RT[:, :, None] == document_RT[:, None, :]) & (
        place_T[:, None] >= place_T[None, :]
    )
    dtype = next(inner.parameters()).dtype
    bias_RTT = torch.zeros(seen_RTT.shape, dtype=dtype, device=tokens_RT.device)
    found = inner(
        input_ids=tokens_RT,
        attention_mask=bias_RTT.masked_fill(~seen_RTT, torch.finfo(dtype).min)[:, None],
        position_ids=place_T - start_RT,
        use_cache=False,
        output_hidden_states=hidden,
    )
    return found.logits, found.hidden_states[-1] if hidden else None


def _window(inner: nn.Module) -> int:
    """Return the shortest sliding window; our mask for documents would override a shorter one."""
    window = getattr(inner.config.get_text_config(), "sliding_window", None)  # type: ignore[union-attr, operator]
    return int(window or 1 << 62)


def _isolates(inner: nn.Module) -> bool:
    """Return whether a packed row of two documents of two tokens gives what each gives alone."""
    device = next(inner.parameters()).device
    tokens = torch.tensor([[1, 2, 3, 4]], device=device)
    document = torch.tensor([[0, 0, 1, 1]], device=device)
    was_training = inner.training
    inner.eval()
    try:
        with torch.no_grad():
            packed = _logits(inner, tokens, document)[0][0, 2:]
            alone = _logits(inner, tokens[:, 2:], None)[0][0]
    except (TypeError, ValueError, RuntimeError, IndexError):  # its forward takes no such mask
        return False
    finally:
        inner.train(was_training)
    spread = float(alone.std()) + 1e-12
    return bool((packed - alone).abs().max() < 1e-3 * spread)


def _config(folder: str) -> Any:
    from transformers import AutoConfig

    place = locate(folder)
    try:
        return AutoConfig.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error


def _unreadable(place: Path, error: Exception) -> DataError:
    return DataError(
        f"no model that transformers can load: {error}",
        expected="a folder with config.json and weights of a causal language model",
        where=str(place),
        write="the folder that save_pretrained wrote",
    )


def _text_config(folder: str) -> Any:
    return _config(folder).get_text_config()
