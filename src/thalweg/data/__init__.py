"""Text in, batches out: stores, the sources that read them, and their mixtures.

build, read, files   text files -> a token store           store, tokenizer
corpus, pairs        a store -> rows                        pack, order
score                a number for each document             lqs, regress, duplicates
select, orders       scores -> which documents, in which order
ordered              a store -> rows of chosen documents
weights              sizes, budget, utilities -> weights    medu, ledger
mixture, selection   several sources -> one; its plan for another loader   deficit
cut, replay, markers row length as a dial; general text; tags
count_grams, grams   frequent n-grams, and the longest that ends at each position
biographies, lives   people who do not exist, to count what a model knows
"""

from thalweg.core.names import home_folder
from thalweg.data.biographies import Biographies
from thalweg.data.build import Built, build
from thalweg.data.chat import PLAIN_TEMPLATE, build_pairs, build_preferences
from thalweg.data.corpus import Corpus
from thalweg.data.count_grams import count_grams
from thalweg.data.cut import Cut
from thalweg.data.duplicates import contaminated, near_duplicates
from thalweg.data.grams import Grams, open_grams
from thalweg.data.lives import Lives
from thalweg.data.markers import Markers, marked
from thalweg.data.medu import medu
from thalweg.data.mixture import Mixture
from thalweg.data.ordered import Ordered
from thalweg.data.orders import (
    AsStored,
    Folded,
    Shuffled,
    SoftSorted,
    Sorted,
    Stages,
    Views,
    WeightedSubset,
    cycle,
)
from thalweg.data.pairs import Pairs
from thalweg.data.preferences import Preferences
from thalweg.data.read import Document, documents
from thalweg.data.score import (
    Scores,
    mean_loss,
    open_scores,
    perplexity,
    score_documents,
    write_scores,
)
from thalweg.data.select import Band, Between, PerGroup, Top
from thalweg.data.store import Store, open_store
from thalweg.data.tokenizer import Tokenizer, byte_tokenizer, load_tokenizer, train_bpe
from thalweg.data.weights import relative_utility, temperature, unimax, utilimax

__all__ = [
    "PLAIN_TEMPLATE",
    "AsStored",
    "Band",
    "Between",
    "Biographies",
    "Built",
    "Corpus",
    "Cut",
    "Document",
    "Folded",
    "Grams",
    "Lives",
    "Markers",
    "Mixture",
    "Ordered",
    "Pairs",
    "PerGroup",
    "Preferences",
    "Scores",
    "Shuffled",
    "SoftSorted",
    "Sorted",
    "Stages",
    "Store",
    "Tokenizer",
    "Top",
    "Views",
    "WeightedSubset",
    "build",
    "build_pairs",
    "build_preferences",
    "byte_tokenizer",
    "contaminated",
    "count_grams",
    "cycle",
    "documents",
    "home_folder",
    "load_tokenizer",
    "marked",
    "mean_loss",
    "medu",
    "near_duplicates",
    "open_grams",
    "open_scores",
    "open_store",
    "perplexity",
    "relative_utility",
    "score_documents",
    "temperature",
    "train_bpe",
    "unimax",
    "utilimax",
    "write_scores",
]
