"""Optimizers as frozen specs, and what turns a spec into torch optimizers.

Every number of a spec is a dial: it may be a schedule until the loop freezes it. There is no
scheduler object: the learning rate is an argument of the step, `Optimizers.set(spec)` writes the
frozen numbers of this step into torch's parameter groups.

Which parameter goes where depends on the kinds and patterns of the spec, never on its numbers, so
the moments of a run fit whatever its dials do. Weight decay is applied to tensors of two or more
dimensions only (embeddings included): norms, biases and other vectors get 0.

    AdamW, SGD, Muon, NAdamW        with a learning rate
    ScheduleFree, Prodigy, DoG      without one, or without its schedule
    Mechanic, Projected             wrappers, which act after the step of what they wrap
    Groups                          another spec for each pattern of names

A spec of your own is a frozen dataclass with the members of `values.Leaf`. What must be remembered
is a tensor in `torch.optim.Optimizer.state`, made when the optimizer is: checkpoints, trials and
shards hold that and nothing else.
"""

from thalweg.optim.assign import OptimizerSpec
from thalweg.optim.build import Optimizers, build, rates
from thalweg.optim.dog import DoG
from thalweg.optim.groups import Groups
from thalweg.optim.mechanic import Mechanic
from thalweg.optim.nadamw import NAdamW
from thalweg.optim.plain import SGD, AdamW, Muon
from thalweg.optim.prodigy import Prodigy
from thalweg.optim.project import Projected, unnormalised
from thalweg.optim.schedulefree import ScheduleFree
from thalweg.optim.values import Widening

__all__ = [
    "SGD",
    "AdamW",
    "DoG",
    "Groups",
    "Mechanic",
    "Muon",
    "NAdamW",
    "OptimizerSpec",
    "Optimizers",
    "Prodigy",
    "Projected",
    "ScheduleFree",
    "Widening",
    "build",
    "rates",
    "unnormalised",
]
