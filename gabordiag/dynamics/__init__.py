"""What an optimizer does on the loss: runs, their outcomes, and maps of many runs.

    the optimizers     `optimizers` (torch's own, by name; one tensor as many runs)
    runs               `descend` (the loop), `run` (judged runs), `replay` (steps and their log),
                       `logger` (of your own training loop), `stochastic` (on mini-batches),
                       `training` (one watched training run of a network), `checkpoint` (with
                       which one that was killed goes on)
    what became of it  `outcomes` (reached, cycle, erratic, ...; jumps, Lyapunov exponents, how
                       far a chaotic path can be trusted)
    many runs          `tables` (loss and gradient as tables), `batch` (all runs in one tensor),
                       `maps` (starts against rates, starts of two parameters), `windows` (the
                       rates that work from one start), `theory` (stability bounds),
                       `bifurcation`, `rates` (those that work of a training, found by training)
    networks           `network` (a plane through all weights: does it show the run?)

The same code judges the outcome of one run and those of a map of a hundred thousand.
"""
