"""Low-rank adapters through `peft`: the base is frozen, two thin matrices a target train.

W x becomes W x + (alpha / rank) B A x, with A random and B zero (arXiv:2106.09685, sec. 4.1).
The adapters are put into the module itself, so forward, blocks and generation stay what they are.
Deviation: A is drawn from keys, as every weight here, not from the global generator.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import nn

from thalweg.core.form import check_part
from thalweg.core.protocols import ModelSpec
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError, did_you_mean

__all__ = ["Lora", "plain_weights"]

_OUTSIDE = ("head", "embedding", "lm_head")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A model of which only low-rank adapters train. Needs the `peft` package.

    Example:
        >>> from thalweg.models.transformer import Transformer
        >>> base = Transformer(vocabulary=16, width=8, layers=1, heads=2, positions=4)
        >>> module = Lora(base=base, rank=2).build(0)
        >>> sum(part.numel() for part in module.parameters() if part.requires_grad)
        320
    """

    base: ModelSpec
    """The model that is adapted."""
    rank: int = 8
    """Rows of A and columns of B."""
    alpha: float = 16.0
    """Scale: the adapter counts alpha / rank."""
    targets: tuple[str, ...] = ("qkv", "out", "gate_up", "down")
    """Last names of the linear layers; for HuggingFace models q_proj, v_proj and the like."""
    dropout: float = 0.0
    """Probability of dropping an input of A in training; torch's global generator draws it."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and the head, whose matmul is inside the loss.

        Raises:
            RecipeError: A base that is no model, a rank that is no count above 0, an alpha not
                above 0, dropout outside [0, 1), no tuple of targets, or the head as one.
        """
        check_part(self.base, ModelSpec, "Lora.base")
        count = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if not count or self.rank < 1:
            raise _refusal(f"rank={self.rank!r}", "a whole number, 1 or more", "rank=8")
        if not (_is_number(self.alpha) and self.alpha > 0):
            raise _refusal(f"alpha={self.alpha!r}", "a finite number above 0", "alpha=16.0")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise _refusal(f"dropout={self.dropout!r}", "a number in [0, 1)", "dropout=0.05")
        self._check_targets()

    def _check_targets(self) -> None:
        names = isinstance(self.targets, tuple) and all(isinstance(t, str) for t in self.targets)
        if not names or not self.targets:
            raise _refusal(
                f"targets={self.targets!r}",
                "a tuple of names of layers, one or more",
                'targets=("qkv", "out"), or targets=("q_proj",)',
            )
        for target in self.targets:
            if target in _OUTSIDE:
                raise _refusal(
                    f"target '{target}'",
                    "linear layers of the blocks",
                    'targets=("qkv", "out", "gate_up", "down")',
                )

    @property
    def vocabulary(self) -> int:
        """Token ids it accepts."""
        return self.base.vocabulary

    @property
    def positions(self) -> int:
        """Longest row it accepts."""
        return self.base.positions

    def build(self, seed: int) -> nn.Module:
        """Return the base with adapters; only they require gradients.

        Raises:
            RecipeError: `peft` is missing, or a target names no linear layer.
        """
        peft = _peft()
        module = self.base.build(seed)
        kinds = {name.rpartition(".")[2]: type(part) for name, part in _linears(module)}
        linear = kinds.keys() - set(_OUTSIDE)
        for target in self.targets:
            if target not in linear:
                raise _refusal(
                    f"target '{target}'",
                    "linear layers of the model: " + ", ".join(sorted(linear)),
                    did_you_mean(target, linear),
                )
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.targets),
            lora_dropout=self.dropout,
            fan_in_fan_out=all(kinds[target].__name__ == "Conv1D" for target in self.targets),
        )
        with torch.random.fork_rng(devices=[]):
            peft.inject_adapter_in_model(config, module)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if "lora_A" in name:
                draw = torch.Generator().manual_seed(key_seed(seed, "weights", name))
                bound = parameter.shape[1] ** -0.5
                with torch.no_grad():
                    parameter.uniform_(-bound, bound, generator=draw)
        return module

    def merged(self, module: nn.Module) -> nn.Module:
        """Return a copy of the module as `base` builds it, the adapters added to the weights.

        Args:
            module: What `build` returned, trained or not. It is not changed.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        plain = copy.deepcopy(module)
        layers = [name for name, part in plain.named_modules() if isinstance(part, BaseTunerLayer)]
        for name in layers:
            parent, _, last = name.rpartition(".")
            layer = plain.get_submodule(name)
            assert isinstance(layer, BaseTunerLayer)
            layer.merge()
            setattr(plain.get_submodule(parent), last, layer.get_base_layer())
        return plain.requires_grad_(True)


def plain_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights by the names they have without adapters, adapters added to them.

    Args:
        module: With adapters or without; it is not changed, and what needs no sum is not copied.
    """
    named = {name: parameter.detach() for name, parameter in module.named_parameters()}
    if not any(".lora_" in name for name in named):
        return named
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = {
        name.replace(".base_layer", ""): value
        for name, value in named.items()
        if ".lora_" not in name
    }
    for name, part in module.named_modules():
        if isinstance(part, BaseTunerLayer):
            weight = f"{name}.weight"
            plain[weight] = plain[weight] + part.get_delta_weight("default").detach()
    return plain


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D":
            yield name, part


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise _refusal("no package 'peft'", "peft", "pip install 'thalweg[peft]'") from error
    module: ModuleType = peft
    return module


def _refusal(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="Lora", write=write)
