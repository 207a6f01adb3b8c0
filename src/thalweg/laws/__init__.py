"""Laws that predict loss curves from learning rates. Imports no torch.

curve, files            one record of a curve, from files of many kinds       Curve Origin read
law, solve, record      one protocol; robust fits that know what they hold for   fit Fitted
rates                   effective rates under weight decay                   Effective
annealing, multipower   the laws                                             AnnealingLaw ...
convex, boundlaw        the last-iterate bound, transfer and extension       optimal_base_rate ...
design, choose          the best schedule under a law; which law             optimise rank
scaling, power, sparsity, capacity, extrapolate  laws over whole runs and metrics
sizes                   one law for models of several sizes    fit_sizes
store, verbs            fits as JSON; what the command line does
planner, posterior      plans from past runs, with what is known beforehand
pilots, runs, prediction  the cheapest past runs; their curves; what was predicted
"""

from thalweg.laws.annealing import AnnealingLaw, annealing_area
from thalweg.laws.boundlaw import BoundLaw
from thalweg.laws.capacity import Capacity, knowledge_bits, value_bits
from thalweg.laws.choose import Errors, cross_validate, errors_of, rank
from thalweg.laws.convex import (
    BoundParts,
    Extension,
    best_cooldown,
    bound_parts,
    extend_schedule,
    extension_factor,
    last_iterate_bound,
    optimal_base_rate,
    transfer_rate,
)
from thalweg.laws.curve import Curve, LawWarning, Origin
from thalweg.laws.design import Design, optimise
from thalweg.laws.extrapolate import Forecast, Trend, exponential_forecast, forecast, trend
from thalweg.laws.files import read
from thalweg.laws.law import Band, CurveLaw, Fitted, fit
from thalweg.laws.multipower import MultiPowerLaw
from thalweg.laws.power import PowerRate, fit_power_rate, power_rate
from thalweg.laws.rates import Effective, Scheduled, cosine, warmup_hold_decay
from thalweg.laws.record import Record
from thalweg.laws.scaling import (
    BatchTrade,
    Chinchilla,
    Kaplan,
    fit_batch_trade,
    fit_chinchilla,
    fit_critical_batch,
    fit_kaplan_size,
    fit_kaplan_steps,
)
from thalweg.laws.sizes import FittedSizes, fit_sizes
from thalweg.laws.sparsity import Sparsity, fit_sparsity
from thalweg.laws.store import from_json, load, save, sizes_from_json, to_json

__all__ = [
    "AnnealingLaw",
    "Band",
    "BatchTrade",
    "BoundLaw",
    "BoundParts",
    "Capacity",
    "Chinchilla",
    "Curve",
    "CurveLaw",
    "Design",
    "Effective",
    "Errors",
    "Extension",
    "Fitted",
    "FittedSizes",
    "Forecast",
    "Kaplan",
    "LawWarning",
    "MultiPowerLaw",
    "Origin",
    "PowerRate",
    "Record",
    "Scheduled",
    "Sparsity",
    "Trend",
    "annealing_area",
    "best_cooldown",
    "bound_parts",
    "cosine",
    "cross_validate",
    "errors_of",
    "exponential_forecast",
    "extend_schedule",
    "extension_factor",
    "fit",
    "fit_batch_trade",
    "fit_chinchilla",
    "fit_critical_batch",
    "fit_kaplan_size",
    "fit_kaplan_steps",
    "fit_power_rate",
    "fit_sizes",
    "fit_sparsity",
    "forecast",
    "from_json",
    "knowledge_bits",
    "last_iterate_bound",
    "load",
    "optimal_base_rate",
    "optimise",
    "power_rate",
    "rank",
    "read",
    "save",
    "sizes_from_json",
    "to_json",
    "transfer_rate",
    "trend",
    "value_bits",
    "warmup_hold_decay",
]
