"""What an optimizer does on the loss: runs, their outcomes, and maps of many runs.

    the optimizers     `optimizers` (torch's own, by name; one tensor as many runs)
    one run            `descent`, `replay` (an interrupted one goes on), `logger` (of one's own
                       training loop), `stochastic` (on mini-batches)
    what became of it  `outcomes` (reached, cycle, erratic, ...; jumps, Lyapunov exponents),
                       `predictability` (how far a chaotic path can be trusted)
    many runs          `tabulate` (loss and gradient as tables), `batch` (all runs in one tensor),
                       `maps` (starts against rates), `windows` (the rates that work from one
                       start), `theory` (what theory says of them), `bifurcation`
    several parameters `joint`, `joint_outcomes`, `joint_batch`, `joint_pairs`, `plane` (a map of
                       starts)
    the page           `exploration` (what the interactive page is made of)

Outcomes are judged by the same code whether of one run or of a map of a hundred thousand.
"""
