"""Text in, batches out: stores, the sources that read them, and their mixtures."""

from thalweg.data.build import Built, build, home_folder
from thalweg.data.chat import PLAIN_TEMPLATE, build_pairs
from thalweg.data.corpus import Corpus
from thalweg.data.mixture import Mixture
from thalweg.data.pairs import Pairs
from thalweg.data.read import Document, documents
from thalweg.data.store import Store, open_store
from thalweg.data.tokenizer import Tokenizer, byte_tokenizer, load_tokenizer, train_bpe

__all__ = [
    "PLAIN_TEMPLATE",
    "Built",
    "Corpus",
    "Document",
    "Mixture",
    "Pairs",
    "Store",
    "Tokenizer",
    "build",
    "build_pairs",
    "byte_tokenizer",
    "documents",
    "home_folder",
    "load_tokenizer",
    "open_store",
    "train_bpe",
]
