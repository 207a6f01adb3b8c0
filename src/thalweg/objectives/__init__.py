"""Objectives: what Learn minimises, and the moves that give credit. One file an axis, not a paper.

tokens       likelihood of running text, in one pass with the head
likelihood   likelihood of answers, weights of targets, coverage
surrogates   rules of a policy gradient, ratios; policy: the objective
advantage    rewards to credit, pure; credit: the moves
divergence   f-divergences, estimators of a KL, reference and rehearsal
preference   links and scores: pairs, unlearning, reward models
distill      whole distributions of a teacher
auxiliary    sums with scheduled weights, entropy, a critic's values
margin       hidden states held where the first model had them, on general text
aggregate    means, for a loop of your own
papers       named combinations; choices: what a phase has chosen, in lines
"""

from thalweg.objectives.aggregate import Totals, aggregate, count
from thalweg.objectives.auxiliary import Entropy, Sum, ValueLoss, Values
from thalweg.objectives.balance import Balanced, ExpertCounts
from thalweg.objectives.choices import choices
from thalweg.objectives.credit import (
    Advantages,
    Correct,
    Filter,
    Gae,
    ImplicitRewards,
    KlPenalty,
    MacroActions,
    ProcessAdvantages,
    Rates,
    TeacherGap,
    TokenRewards,
    WeightOf,
)
from thalweg.objectives.distill import Distill, TopTokens
from thalweg.objectives.divergence import (
    Alpha,
    ForwardKl,
    Hellinger,
    JensenShannon,
    KlToReference,
    Rehearsal,
    ReverseKl,
)
from thalweg.objectives.forward import Logprobs
from thalweg.objectives.likelihood import Likelihood
from thalweg.objectives.loads import LaggedLoad, Load, Rebias
from thalweg.objectives.margin import Hidden, Margins, ThresholdMargin
from thalweg.objectives.papers import METHODS, Method
from thalweg.objectives.policy import Policy
from thalweg.objectives.preference import (
    Asymmetric,
    Forget,
    Hinge,
    Logistic,
    Outcome,
    Preference,
    Squared,
)
from thalweg.objectives.surrogates import (
    Centred,
    Cispo,
    Clip,
    Nft,
    Reinforce,
    Shaped,
    Soft,
    Taken,
    Unclipped,
)
from thalweg.objectives.tokens import NextToken

__all__ = [
    "METHODS",
    "Advantages",
    "Alpha",
    "Asymmetric",
    "Balanced",
    "Centred",
    "Cispo",
    "Clip",
    "Correct",
    "Distill",
    "Entropy",
    "ExpertCounts",
    "Filter",
    "Forget",
    "ForwardKl",
    "Gae",
    "Hellinger",
    "Hidden",
    "Hinge",
    "ImplicitRewards",
    "JensenShannon",
    "KlPenalty",
    "KlToReference",
    "LaggedLoad",
    "Likelihood",
    "Load",
    "Logistic",
    "Logprobs",
    "MacroActions",
    "Margins",
    "Method",
    "NextToken",
    "Nft",
    "Outcome",
    "Policy",
    "Preference",
    "ProcessAdvantages",
    "Rates",
    "Rebias",
    "Rehearsal",
    "Reinforce",
    "ReverseKl",
    "Shaped",
    "Soft",
    "Squared",
    "Sum",
    "Taken",
    "TeacherGap",
    "ThresholdMargin",
    "TokenRewards",
    "TopTokens",
    "Totals",
    "Unclipped",
    "ValueLoss",
    "Values",
    "WeightOf",
    "aggregate",
    "choices",
    "count",
]
