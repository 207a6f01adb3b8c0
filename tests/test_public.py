"""The public names: a golden list. A change here is a change for every user."""

import subprocess
import sys

import pytest

import thalweg

PUBLIC = """
AT_END
AdamW
AsGiven
Batch
Blend
By
Claim
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
DialError
Diverged
Exponential
Groups
HeldOut
HuggingFace
Infinite
Inverse
InverseSqrt
InverseSqrtDecay
Lazy
Learn
Learned
Learner
Least
Linear
Lora
Loss
Mixture
ModelSpec
Monitor
Move
Muon
NEVER
Next
NextToken
NotReproduced
Objective
OneCycle
OneMinusSqrt
Origin
Pairs
Phase
Polynomial
Power
Pretrained
Problem
Recipe
RecipeError
Repeat
Rewarm
Rex
RowMean
SGD
Sampled
Save
Saves
Schedule
Score
Scored
Session
Set
Source
Span
Staircase
StateError
Stop
Table
Task
ThalwegError
Then
Time
Times
TokenMean
Transformer
Trial
Warmup
Wsd
WsdS
Wsdc
at
branch
build
build_pairs
decayed
export
extended
generate
get
graft
held_out_loss
logprobs
plan
put
record
refine
resume
rng
share
size
steps
tokens
train
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
