"""Models: our decoder, Hugging Face in and out, adapters."""

from thalweg.models.attention import attention
from thalweg.models.crossentropy import linear_cross_entropy
from thalweg.models.export import export
from thalweg.models.freeze import freeze
from thalweg.models.growth import larger
from thalweg.models.hub import Pretrained, from_hub, locate
from thalweg.models.latent import Latent
from thalweg.models.layout import spec_from_config
from thalweg.models.lora import Lora
from thalweg.models.memory import keep_freed_memory
from thalweg.models.moe import Moe
from thalweg.models.mup import Mup, activations
from thalweg.models.scone import GramFile, GramTable, Lookups, Scone
from thalweg.models.sizes import SIZES, parameters, size
from thalweg.models.transformer import Decoder, Llama3Rope, Transformer
from thalweg.models.wrapper import HuggingFace, Wrapped

__all__ = [
    "SIZES",
    "Decoder",
    "GramFile",
    "GramTable",
    "HuggingFace",
    "Latent",
    "Llama3Rope",
    "Lookups",
    "Lora",
    "Moe",
    "Mup",
    "Pretrained",
    "Scone",
    "Transformer",
    "Wrapped",
    "activations",
    "attention",
    "export",
    "freeze",
    "from_hub",
    "keep_freed_memory",
    "larger",
    "linear_cross_entropy",
    "locate",
    "parameters",
    "size",
    "spec_from_config",
]
