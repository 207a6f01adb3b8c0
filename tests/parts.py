"""One example of every public part, and the rooms they are found in."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import ModuleType

import thalweg
from thalweg import (
    controllers,
    data,
    models,
    monitors,
    objectives,
    optim,
    rollouts,
    schedules,
    tasks,
)
from thalweg.core import recipe as recipes
from thalweg.core.dials import From
from thalweg.core.grow import Grow
from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import Time, share, steps
from thalweg.core.weigh import AsGiven, Each, PerRow, RowMean, TokenMean
from thalweg.data import Corpus, Mixture, Pairs, Preferences
from thalweg.models.transformer import Llama3Rope
from thalweg.monitors import HeldOut, Knowledge, Memory, Sharpness, Sparsity, Stability
from thalweg.tasks import Addition

__all__ = ["PARTS", "VALUES", "public_dataclasses", "public_modules"]

ROOT = Path(thalweg.__file__).parent
ROOMS = (
    *("core", "controllers", "data", "models", "monitors", "objectives", "optim", "rollouts"),
    *("schedules", "tasks"),
)


def public_modules() -> Iterator[ModuleType]:
    """Yield every module of the rooms that parts live in."""
    for room in ROOMS:
        if not any((ROOT / room).glob("*.py")) and not (ROOT / f"{room}.py").exists():
            continue
        package = importlib.import_module(f"thalweg.{room}")
        yield package
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            yield importlib.import_module(f"{package.__name__}.{module.name}")


def public_dataclasses() -> dict[str, type]:
    """Return every public frozen dataclass of the rooms by its name."""
    found = {}
    for module in public_modules():
        for name in module.__all__:
            kind = getattr(module, name)
            if isinstance(kind, type) and is_dataclass(kind):
                found[kind.__name__] = kind
    return found


def halves(time: Time) -> float:
    return 0.5


LEARN = Learn("policy", objectives.NextToken(), optim.AdamW(lr=1e-3), micro=64)
CORPUS = Corpus("folder", length=16)
DECODER = models.Transformer(vocabulary=32, width=16, layers=1, heads=2, positions=8)
ROPE = Llama3Rope(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=64)

PARTS = [
    # core
    Copy("policy", "actor", every=4, mix=0.5),
    LEARN,
    Score("ref", "ref"),
    AsGiven(0.5),
    RowMean(),
    TokenMean(),
    PerRow(8.0),
    Each({"weight": TokenMean(), "sft_weight": RowMean("sft_weight")}),
    recipes.Compute(dtype="bfloat16"),
    recipes.CopyOf("policy"),
    recipes.Saves(),
    Phase(10, CORPUS, (LEARN,), rows=4),
    Recipe({"policy": DECODER}, (Phase(10, CORPUS, (LEARN,), rows=4),)),
    steps(10),
    From(schedules.Linear(1.0, 0.0), 3, 5),
    Grow("policy", replace(DECODER, layers=2)),
    # controllers
    controllers.AdaptiveEntropy(target=1.0),
    controllers.AutoLrs(low=1e-4, high=1e-1, stage=40),
    controllers.DecayBranches((100, share(0.5)), variants={"long": {"lr": 0.1}}),
    controllers.EarlyStop(against=((1.0, 2.0),)),
    controllers.GradientSwitch(taught="sft", tried="rl"),
    controllers.Hypergradient(low=1e-5, high=1e-1),
    controllers.IdleExperts(patience=50),
    controllers.LearningProgress(("a", "b"), every=4),
    controllers.LossProportional(("a", "b"), every=steps(4)),
    controllers.Pilots(("a", "b"), steps=4),
    controllers.Reached("heldout/pass@1", 0.4),
    controllers.SkillIt({"a": {"a": 1.0, "b": 0.5}, "b": {"a": 0.0, "b": 1.0}}, every=4),
    controllers.Watch((10, 20), (3.0, 2.0), (2.9, 1.9), (3.1, 2.1)),
    # data
    CORPUS,
    Pairs("folder", length=16),
    Preferences("folder", length=16),
    Mixture({"a": CORPUS, "b": Pairs("folder", length=16)}, {"a": 1.0, "b": 2.0}),
    data.Biographies(people=9),
    data.Lives(people=9),
    data.Cut(8),
    data.Markers(("domain",), drop_all=0.2),
    data.Ordered("folder", data.Folded("lqs"), (data.Top("lqs", 0.4),), scores="scores"),
    data.AsStored(),
    data.Folded("lqs", folds=2),
    data.Shuffled(),
    data.SoftSorted("loss"),
    data.Sorted("loss", descending=True),
    data.Stages("loss"),
    data.Views(copies=2),
    data.WeightedSubset("loss", data.cycle(0.25)),
    data.Band("loss", 0.2, 0.8),
    data.Between("duplicate", high=0.0),
    data.PerGroup("site", most=10, by="loss"),
    data.Top("lqs", 0.4),
    # models
    DECODER,
    models.Transformer(
        vocabulary=32, width=16, layers=1, heads=2, positions=8, rope_scaling=ROPE, tied=True
    ),
    ROPE,
    models.Pretrained("folder"),
    models.HuggingFace("folder"),
    models.Mup(base_width=8),
    models.Lora(base=DECODER, rank=2),
    models.Latent(rank=4, nope=2, rope=2, value=4),
    models.Moe(experts=4, top=2, shared=8),
    models.Scone("grams", layers=1),
    models.GramTable("grams"),
    models.GramFile("folder"),
    # monitors, objectives, optimizers
    HeldOut({"text": CORPUS}, every=share(0.1)),
    Knowledge(data.Biographies(people=9)),
    Memory(CORPUS, CORPUS),
    monitors.ExpertUse({"text": CORPUS}),
    monitors.Pathways(CORPUS),
    Sharpness(CORPUS),
    Sparsity(CORPUS),
    Stability({"old": CORPUS}, {"new": CORPUS}),
    objectives.NextToken(),
    objectives.Likelihood(coverage=16.0),
    objectives.Policy(objectives.Clip(high=0.28)),
    objectives.KlToReference("k2"),
    objectives.Rehearsal(objectives.Alpha(0.3)),
    objectives.Distill(objectives.ReverseKl()),
    objectives.Entropy(),
    objectives.ValueLoss(),
    objectives.Preference(objectives.Squared(0.2), normalise="mean"),
    objectives.Forget(),
    objectives.Outcome(),
    objectives.Sum({"sft": objectives.Likelihood(weight="sft_weight")}, {"sft": 0.5}),
    objectives.Alpha(),
    objectives.ForwardKl(),
    objectives.Hellinger(),
    objectives.JensenShannon(),
    objectives.ReverseKl(),
    objectives.Asymmetric(),
    objectives.Hinge(),
    objectives.Logistic(margin=0.5),
    objectives.Squared(),
    objectives.Centred(),
    objectives.Cispo(),
    objectives.Clip(dual=3.0),
    objectives.Nft("odds"),
    objectives.Reinforce(),
    objectives.Shaped(),
    objectives.Soft(),
    objectives.Unclipped(),
    objectives.Logprobs("chosen", temperature=0.7),
    objectives.TopTokens(8),
    objectives.Values(),
    objectives.Advantages("leave_one_out", "none"),
    objectives.Correct(drop=True),
    objectives.Filter(0.2, 0.8),
    objectives.Gae(macro=True),
    objectives.ImplicitRewards(),
    objectives.KlPenalty(0.05),
    objectives.MacroActions(3),
    objectives.ProcessAdvantages(),
    objectives.Rates(),
    objectives.TeacherGap(),
    objectives.TokenRewards(0.05),
    objectives.WeightOf("sft_weight", values=(1,)),
    objectives.Balanced(objectives.NextToken(), z=1e-3),
    objectives.ExpertCounts(),
    objectives.Hidden(),
    objectives.Margins(),
    objectives.ThresholdMargin(objectives.NextToken(), scale=10.0),
    objectives.LaggedLoad(),
    objectives.Load(rows=2, shuffled=True),
    objectives.Rebias(rate=0.01),
    optim.AdamW(lr=1e-3),
    optim.SGD(lr=1e-3, momentum=0.9),
    optim.Muon(lr=0.02, adam=optim.AdamW(lr=1e-3)),
    optim.Groups({"*bias": optim.SGD(lr=0.1), "*": optim.AdamW(lr=1e-3)}),
    optim.NAdamW(),
    optim.ScheduleFree(optim.SGD(lr=1.0, momentum=0.9)),
    optim.Prodigy(),
    optim.DoG(layerwise=True),
    optim.Mechanic(optim.AdamW(lr=1.0)),
    optim.Projected(optim.Muon(lr=0.02, adam=optim.AdamW(lr=1e-3))),
    # rollouts
    rollouts.Rollouts(task=Addition(), keep=rollouts.Keep(low=0.2), group=4),
    rollouts.Demonstrations(task=Addition(), level=0.5),
    rollouts.Hint(fn=halves),
    rollouts.Judge(reward=halves),
    rollouts.Keep(),
    rollouts.Majority(0.75),
    rollouts.Mismatch(),
    rollouts.RouteMismatch(),
    rollouts.Pair("margin"),
    rollouts.Questions("rows.jsonl"),
    rollouts.ReplayWindow(),
    rollouts.Sampling(),
    rollouts.Solved(task=Addition(), problems=4),
    rollouts.Vllm(model="policy", folder="weights"),
    # schedules
    schedules.Blend({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}),
    schedules.By(halves),
    schedules.Constant(0.1),
    schedules.Cosine(0.1),
    schedules.Cyclic(0.1, 1.0, half=steps(4)),
    schedules.Exponential(1.0, 0.1),
    schedules.Infinite(1.0, 0.5, 0.1, steps(4), steps(2), at=share(0.8)),
    schedules.Inverse(1.0, 0.1),
    schedules.InverseSqrt(1.0, scale=steps(20)),
    schedules.InverseSqrtDecay(1.0, 0.1, alpha=9.0),
    schedules.Least(schedules.Linear(0.0, 1.0), schedules.Linear(1.0, 0.0)),
    schedules.Linear(1.0, 0.0),
    schedules.OneCycle(1.0, 0.1, 0.001),
    schedules.OneMinusSqrt(1.0),
    schedules.Polynomial(1.0, 0.0, power=2.0),
    schedules.Power(0.02, rows=4.0, before=1e9),
    schedules.Repeat(schedules.Cosine(1.0), every=steps(4)),
    schedules.Rewarm(1.0, 0.1, stages=(steps(4), steps(4)), warmup=steps(1)),
    schedules.Rex(1.0),
    schedules.Sampled(schedules.Linear(1.0, 0.0), at=(share(0.5),)),
    schedules.Staircase((1.0, 0.1), at=(share(0.5),)),
    schedules.Table((0.0, 1.0, 0.0), at=(0.0, 0.25, 1.0)),
    schedules.Then(schedules.Linear(1.0, 0.5), schedules.Cosine(0.5), after=share(0.3)),
    schedules.Times(schedules.Cosine(1.0), schedules.Linear(1.0, 0.5)),
    schedules.Warmup(schedules.Cosine(1.0), over=steps(4)),
    schedules.Wsd(2e-3, warmup=steps(4), decay=share(0.25)),
    schedules.WsdS(2e-3, targets=(share(0.5), share(1.0)), decay=share(0.25)),
    schedules.Wsdc(2e-3, 1e-4, stable=steps(4), decay=steps(2)),
    # tasks
    tasks.Addition(digits=3, fewest=1, reverse=True),
    tasks.Choices(tasks.Addition()),
    tasks.Gym("chain_sum", {"max_terms": 3}),
    tasks.Knights(people=3),
    tasks.Maze(nodes=10, hops=2),
    tasks.Modular(13, "*", terms=3),
    tasks.Multiplication(digits=2, scratchpad=True),
    tasks.Rows("gsm8k.jsonl", prompt="Question: {}\nAnswer: "),
    tasks.Strings("reverse", length=8),
    tasks.ToolCalls(tools=3),
    tasks.Zebra(3, 3, notation="compact"),
]

VALUES = {
    *("Bench", "Claim", "ColumnSpec", "Context", "Dials", "Lazy", "Moment", "Origin", "Places"),
    *("Plan", "Problem", "RunState", "Session", "Share", "Time", "World"),
    *("Next", "Save", "Set", "Stop", "Trial"),  # actions: they pass, they are not recorded
    *("Results", "Size", "Method"),
    *("Job", "Plain", "Segment", "Store", "Tokenizer", "Writer"),
    *("Grams", "Pool", "Scores"),
    *("Documents", "Tokens", "Weights"),  # readers of laid rows
    *("Caller", "ChatServer", "Drawn", "Inspired", "Local", "Synthesis"),
    *("DecoderGrowth", "SelectionMap"),
}
"""Public dataclasses that no recipe holds."""
