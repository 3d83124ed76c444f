"""Options of the commands that run optimizers, each defined once."""

from __future__ import annotations

from typing import Annotated

import typer

from gabordiag.cli.values import Named, named, parse_named

Optimizer = Annotated[str, typer.Option(help="A class of torch.optim, in lower case.")]
Momentum = Annotated[float, typer.Option(help="For sgd and rmsprop.")]
Nesterov = Annotated[bool, typer.Option("--nesterov", help="For sgd with momentum.")]
Steps = Annotated[int, typer.Option(help="Optimizer steps.")]
Schedule = Annotated[str, typer.Option(help="constant, step, exponential, cosine or one-cycle.")]
Animate = Annotated[
    bool, typer.Option("--animate", help="Write the failing run as an animation, at most 10 s.")
]
Rates = Annotated[
    list[Named],
    typer.Option(
        parser=named("--lr", parse_named),
        metavar="[NAME=]RATE",
        show_default="0.01",
        help="Learning rate; repeatable. With a name, that of one of several parameters.",
    ),
]
Learned = Annotated[
    list[str], typer.Option(metavar="NAME", help="The learned parameter; several, if repeated.")
]
LrScan = Annotated[
    str, typer.Option("--lr", metavar="LO:HI:POINTS", help="Learning rates, log-spaced.")
]
