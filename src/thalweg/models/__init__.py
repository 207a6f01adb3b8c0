"""Models: our decoder, Hugging Face in and out, adapters."""

from thalweg.models.attention import attention
from thalweg.models.crossentropy import linear_cross_entropy
from thalweg.models.export import export
from thalweg.models.hub import Pretrained, from_hub, locate
from thalweg.models.layout import spec_from_config
from thalweg.models.lora import Lora
from thalweg.models.memory import keep_freed_memory
from thalweg.models.moe import Moe
from thalweg.models.mup import Mup, activations
from thalweg.models.sizes import SIZES, parameters, size
from thalweg.models.transformer import Decoder, Llama3Rope, Transformer
from thalweg.models.wrapper import HuggingFace, Wrapped

__all__ = [
    "SIZES",
    "Decoder",
    "HuggingFace",
    "Llama3Rope",
    "Lora",
    "Moe",
    "Mup",
    "Pretrained",
    "Transformer",
    "Wrapped",
    "activations",
    "attention",
    "export",
    "from_hub",
    "keep_freed_memory",
    "linear_cross_entropy",
    "locate",
    "parameters",
    "size",
    "spec_from_config",
]
