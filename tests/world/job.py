"""What each process of a torchrun does in the tests of the world. Arguments: the folder, a list."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from thalweg.core.names import load_file
from thalweg.core.session import Origin, Session, resume, train
from thalweg.errors import RecipeError

FILE = Path(__file__).with_name("spy.py")


def stop_after(steps: int) -> Callable[[], bool]:
    left = [steps]

    def interrupted() -> bool:
        left[0] -= 1
        return left[0] == 0

    return interrupted


def work(folder: Path, task: dict) -> None:
    spy = load_file(FILE)
    spy.READ.clear()
    run = folder / task["run"]
    session = Session(interrupted=stop_after(task.get("stop", -1)))
    if task["do"] == "resume":
        resume(run, session)
    else:
        recipe = spy.recipe(str(folder / "store"), task["shard"], task.get("rows", 8))
        try:
            train(recipe, run, Origin(file=FILE), session)
        except RecipeError as error:
            (folder / f"{task['run']}.refused").write_text(str(error))
    rank = os.environ.get("RANK", "0")
    (folder / f"{task['run']}.read.{rank}").write_text(json.dumps(spy.READ))


if __name__ == "__main__":
    for one in json.loads(sys.argv[2]):
        work(Path(sys.argv[1]), one)
