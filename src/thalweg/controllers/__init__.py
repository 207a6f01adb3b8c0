"""Controllers: they look at a run between steps and act on it. Pure; their state is plain data.

search         a dial searched on the fly, by trials          AutoLrs
hypergradient  a rate that follows its hypergradient          Hypergradient; FedHyper's rules
branch         decays that leave a trunk                      DecayBranches
entropy        a coefficient that holds a policy's entropy up   AdaptiveEntropy
early          runs judged by how they begin                  EarlyStop
experts        experts that receive no token: warns, never acts   IdleExperts
gaussian       the small Gaussian process of the search
mixture        weights of a mixture by its losses            LearningProgress LossProportional
skill          weights by a graph of influences              SkillIt Pilots
reach          the end of a phase, by what the model can do  Reached
switch         demonstrations or rewards, by a gradient     GradientSwitch
watch          a run against its predicted loss: warns, never acts
reading        what controllers read from a report
"""

from thalweg.controllers.branch import DecayBranches
from thalweg.controllers.early import Early, EarlyStop, early_dynamics, early_scores, survivors
from thalweg.controllers.entropy import AdaptiveEntropy
from thalweg.controllers.experts import IdleExperts
from thalweg.controllers.hypergradient import (
    Hypergradient,
    client_rate,
    global_scale,
    hyper_rate,
    local_scale,
)
from thalweg.controllers.mixture import LearningProgress, LossProportional, progress_weights
from thalweg.controllers.reach import Reached
from thalweg.controllers.search import AutoLrs
from thalweg.controllers.skill import Pilots, SkillIt, influence, skill_weights, skills_graph
from thalweg.controllers.switch import GradientSwitch
from thalweg.controllers.watch import Watch

__all__ = [
    "AdaptiveEntropy",
    "AutoLrs",
    "DecayBranches",
    "Early",
    "EarlyStop",
    "GradientSwitch",
    "Hypergradient",
    "IdleExperts",
    "LearningProgress",
    "LossProportional",
    "Pilots",
    "Reached",
    "SkillIt",
    "Watch",
    "client_rate",
    "early_dynamics",
    "early_scores",
    "global_scale",
    "hyper_rate",
    "influence",
    "local_scale",
    "progress_weights",
    "skill_weights",
    "skills_graph",
    "survivors",
]
