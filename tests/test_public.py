"""The public names: a golden list. A change here is a change for every user."""

import subprocess
import sys

import pytest

import thalweg

PUBLIC = """
AT_END
AdamW
AdaptiveEntropy
Addition
Advantages
AsGiven
AutoLrs
Balanced
Batch
Biographies
Blend
By
ChatServer
Choices
Claim
Clip
ColumnError
Compute
Constant
Context
Controller
Copy
CopyOf
Corpus
Cosine
Cyclic
DataError
DecayBranches
Demonstrations
DialError
Distill
Diverged
DoG
Each
EarlyStop
Entropy
ExpertCounts
ExpertUse
Exponential
Filter
Forget
Grade
GradientSwitch
GramTable
Groups
Grow
HeldOut
Hint
HuggingFace
Hypergradient
IdleExperts
Infinite
Inverse
InverseSqrt
InverseSqrtDecay
Judge
Keep
KlToReference
Knights
Knowledge
LaggedLoad
Latent
Lazy
Learn
Learned
Learner
LearningProgress
Least
Likelihood
Linear
Listed
Lives
Load
Logprobs
Lora
Loss
LossProportional
METHODS
Majority
Margins
Maze
Mechanic
Memory
Mismatch
Mixture
ModelSpec
Modular
Moe
Monitor
Move
Multiplication
Muon
Mup
NAdamW
NEVER
Next
NextToken
NotReproduced
Objective
OneCycle
OneMinusSqrt
Ordered
Origin
Outcome
Pair
Pairs
Pathways
PerRow
Phase
Policy
Polynomial
Power
Preference
Preferences
Pretrained
Problem
Prodigy
Projected
Questions
Reached
Rebias
Recipe
RecipeError
Rehearsal
Repeat
ReplayWindow
Rewarm
Rex
Rollouts
RouteMismatch
RowMean
Rows
SGD
Sampled
Sampling
Save
Saves
Schedule
ScheduleFree
Scone
Score
Scored
Session
Set
Sharpness
Size
SkillIt
Solved
Source
Span
Sparsity
Stability
Staircase
StateError
Stop
Strings
Sum
Synthesis
Table
Task
ThalwegError
Then
ThresholdMargin
Time
Times
TokenMean
ToolCalls
TopTokens
Transformer
Trial
Vllm
Warmup
Watch
WeightOf
Wsd
WsdS
Wsdc
Zebra
at
branch
build
build_pairs
build_preferences
decayed
export
extended
generate
get
graft
held_out_loss
larger
logprobs
pass_at_k
plan
problem_at
put
record
refine
resume
rng
share
size
steps
synthesise
tokens
train
unimax
utilimax
"""


def test_the_public_names_are_these():
    assert thalweg.__all__ == PUBLIC.split()


@pytest.mark.parametrize("name", PUBLIC.split())
def test_every_public_name_is_there_and_says_what_it_is(name):
    part = getattr(thalweg, name)
    if callable(part):
        assert (part.__doc__ or "").strip(), f"{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Wds'"):
        thalweg.Wds  # noqa: B018


def test_names_are_listed_for_people_who_press_tab():
    assert set(thalweg.__all__) < set(dir(thalweg))


def test_schedules_errors_and_the_package_itself_import_no_torch():
    code = (
        "import sys, thalweg, thalweg.schedules, thalweg.errors, thalweg.core.protocols\n"
        "from thalweg import Wsd, share, RecipeError, Recipe\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
