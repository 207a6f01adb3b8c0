"""What each process of a torchrun does: a run in a folder. Arguments: the folder, how to shard."""

import sys
from dataclasses import replace
from pathlib import Path

from thalweg.core.names import load_file
from thalweg.core.recipe import Compute
from thalweg.core.session import Origin, train
from thalweg.rollouts import Keep, ReplayWindow

if __name__ == "__main__":
    helpers = Path(__file__).parents[1] / "rollout_helpers.py"
    made = load_file(helpers).recipe(
        replace(
            load_file(helpers).SOURCE,
            keep=Keep(oversample=1.5, fill=True),
            replay=ReplayWindow(share=0.5, steps=2),
        ),
        steps=4,
        every=1,
    )
    compute = Compute(device="cpu", shard=sys.argv[2])
    train(replace(made, compute=compute), Path(sys.argv[1]), Origin(file=helpers))
