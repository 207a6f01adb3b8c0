"""A plan of a batch that grows late: lengths in steps beyond any fixed grid."""


def test_a_plan_reads_a_batch_that_grows_after_many_steps(shell):
    (shell.folder / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from thalweg import Constant, Linear, Recipe, Then, steps\n"
        "from thalweg.recipes.pretrain import recipe as base\n"
        "def recipe() -> Recipe:\n"
        "    '''Grow the batch.'''\n"
        "    made = base(data=['a.txt'], model='250k', tokenizer='bytes', length=16, steps=400)\n"
        "    rows = Then(Constant(4), Linear(4, 16), after=steps(300))\n"
        "    return replace(made, phases=(replace(made.phases[0], rows=rows),))\n"
    )
    code, out, err = shell("plan", "mine.py")
    assert code == 0, err
    assert "steps       400" in out
