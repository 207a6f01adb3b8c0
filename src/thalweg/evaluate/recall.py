"""What a model writes behind the beginnings of texts, token by token the likeliest."""

import torch

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.rollouts.engine import generate
from thalweg.rollouts.sampling import Sampling

__all__ = ["continued"]


def continued(learner: Learner, cue_RT: torch.Tensor, length: int) -> torch.Tensor:
    """Return rows of `length` tokens: the cue, and what greedy decoding adds, int64 [R, length].

    Keys and values are kept; the last token, which may stand behind the model's last position, is
    read off a pass over the rows.

    Args:
        learner: The model, in its world.
        cue_RT: int64 [R, cue], one token or more, and fewer than `length`.
        length: Tokens of a row with its cue.
    """
    rows, new = cue_RT.tolist(), length - 1 - cue_RT.shape[1]
    how = Sampling(new_tokens=new, temperature=0.0)
    if new:
        rows = learner.generate(
            rows,
            lambda module, cues: [
                [*cue, *answer.tokens]
                for cue, (answer,) in zip(cues, generate(module, cues, how), strict=True)
            ],
        )
    rows_RT = torch.tensor(rows)
    last_R = learner.score(
        lambda model, batch: model(batch["tokens"])[:, -1].argmax(-1), Batch({"tokens": rows_RT})
    )
    return torch.cat([rows_RT, last_R[:, None]], dim=1)
