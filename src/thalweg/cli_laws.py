"""`thalweg laws`: fit, predict, optimise, compare. Curves in, text and files out; no torch."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from thalweg.laws.curve import Origin
from thalweg.laws.verbs import LAWS, Answer, compare_files, fit_files, optimise_file, predict_file

__all__ = ["laws"]

laws = typer.Typer(
    help="Fit laws to loss curves, predict runs, and choose schedules, without training anything.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Curves = Annotated[list[Path], typer.Argument(help="CSV, JSON lines, or folders of runs.")]
Fit = Annotated[Path, typer.Argument(help="A fit, as written by 'laws fit'.")]
Loss = Annotated[str | None, typer.Option(help="Column of the loss; found if only one fits.")]
Lr = Annotated[
    list[str],
    typer.Option(help="Column of the rate, a number, or a file with rates; repeated: one a curve."),
]
Step = Annotated[str | None, typer.Option(help="Column of the step; found if only one fits.")]
LoggedWarmup = Annotated[int | None, typer.Option(help="Steps before the first logged rate.")]
Since = Annotated[int, typer.Option(help="Leave out measurements before this step.")]
Optimizer = Annotated[str | None, typer.Option(help="What the runs were made with: adamw, ...")]
BatchTokens = Annotated[int | None, typer.Option(help="Target tokens of a step.")]
Parameters = Annotated[
    list[float],
    typer.Option(help="Weights of the model, without embeddings; repeated: one a file."),
]
Size = Annotated[
    float | None,
    typer.Option("--parameters", help="Size of the model, for a fit over several sizes."),
]
Decay = Annotated[float | None, typer.Option("--weight-decay", help="Of the runs; 0.1 if unknown.")]
Out = Annotated[Path | None, typer.Option(help="File to write.")]
Elsewhere = Annotated[
    Literal["refuse", "warn"], typer.Option(help="For runs unlike those that were fitted.")
]


@laws.command()
def fit(
    curves: Curves,
    out: Annotated[Path, typer.Option(help="File to write the fit to.")] = Path("law.json"),
    law: Annotated[str, typer.Option(help="One of " + ", ".join(LAWS))] = "effective",
    loss: Loss = None,
    lr: Lr = [],  # noqa: B006  # typer reads it
    step: Step = None,
    warmup: LoggedWarmup = None,
    since: Since = 0,
    optimizer: Optimizer = None,
    batch_tokens: BatchTokens = None,
    parameters: Parameters = [],  # noqa: B006  # typer reads it
    weight_decay: Decay = None,
    one_decay: Annotated[
        Literal["refuse", "warn"],
        typer.Option(help="For a single smooth decay."),
    ] = "refuse",
) -> None:
    """Fit a law to curves and write it as JSON."""
    origin = _origin(optimizer, batch_tokens, None, weight_decay)
    _say(
        fit_files(
            curves, out=out, law=law, loss=loss, lr=_rates(lr), step=step, warmup=warmup,
            since=since, origin=origin, parameters=parameters, one_decay=one_decay,
        )
    )  # fmt: skip


@laws.command()
def predict(
    fitted: Fit,
    schedule: Annotated[Path | None, typer.Option(help="File with a rate a step.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run.")] = None,
    peak: Annotated[float | None, typer.Option(help="Peak rate.")] = None,
    warmup: Annotated[int, typer.Option(help="Steps of warm-up.")] = 0,
    decay: Annotated[int, typer.Option(help="Steps of decay at the end.")] = 0,
    shape: Annotated[Literal["wsd", "cosine"], typer.Option(help="Of the schedule.")] = "wsd",
    floor: Annotated[float, typer.Option(help="Last rate as a share of the peak.")] = 0.0,
    level: Annotated[float, typer.Option(help="Of the interval.")] = 0.9,
    parameters: Size = None,
    out: Out = None,
    elsewhere: Elsewhere = "refuse",
) -> None:
    """Predict a loss curve with an interval, from rates in a file or from a schedule."""
    _say(
        predict_file(
            fitted, schedule=schedule, steps=steps, peak=peak, warmup=warmup, decay=decay,
            shape=shape, floor=floor, level=level, parameters=parameters, out=out,
            elsewhere=elsewhere,
        )
    )  # fmt: skip


@laws.command()
def optimise(
    fitted: Fit,
    steps: Annotated[int, typer.Option(help="Length of the run.")],
    peak: Annotated[
        float | None, typer.Option(help="Peak rate; the fit's own if left out.")
    ] = None,
    warmup: Annotated[int, typer.Option(help="Steps of warm-up.")] = 0,
    floor: Annotated[float, typer.Option(help="Last rate as a share of the peak.")] = 0.0,
    family: Annotated[
        Literal["cooldown", "free"], typer.Option(help="A hold and a cooldown, or any decay.")
    ] = "cooldown",
    parameters: Size = None,
    out: Out = None,
    elsewhere: Elsewhere = "refuse",
) -> None:
    """Recommend the schedule that a fit likes best."""
    _say(
        optimise_file(
            fitted, steps, peak=peak, warmup=warmup, floor=floor, family=family,
            parameters=parameters, out=out, elsewhere=elsewhere,
        )
    )  # fmt: skip


@laws.command()
def compare(
    curves: Curves,
    law: Annotated[list[str], typer.Option(help="Laws to compare; all if not given.")] = [],  # noqa: B006  # typer reads it
    held: Annotated[list[Path], typer.Option(help="Curves to judge on; else each in turn.")] = [],  # noqa: B006
    loss: Loss = None,
    lr: Lr = [],  # noqa: B006  # typer reads it
    step: Step = None,
    warmup: LoggedWarmup = None,
    since: Since = 0,
    optimizer: Optimizer = None,
    batch_tokens: BatchTokens = None,
    parameters: Annotated[float | None, typer.Option(help="Weights of the model.")] = None,
    weight_decay: Decay = None,
) -> None:
    """Compare laws by their errors on curves they were not fitted on."""
    origin = _origin(optimizer, batch_tokens, parameters, weight_decay)
    _say(
        compare_files(
            curves, laws=tuple(law) or tuple(LAWS), held=held, loss=loss, lr=_rates(lr),
            step=step, warmup=warmup, since=since, origin=origin,
        )
    )  # fmt: skip


def _say(answer: Answer) -> None:
    print(answer.text)


def _rates(texts: list[str]) -> list[str | float] | None:
    """Return numbers where there are some: constant rates."""
    return [_number(text) for text in texts] or None


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _origin(
    optimizer: str | None,
    batch_tokens: int | None,
    parameters: float | None,
    weight_decay: float | None,
) -> Origin | None:
    """Return what the user says of the runs; None to read it from them."""
    if (optimizer, batch_tokens, parameters, weight_decay) == (None, None, None, None):
        return None
    return Origin(
        optimizer=optimizer,
        batch_tokens=batch_tokens,
        parameters=parameters,
        weight_decay=weight_decay,
    )
