"""The figures, all drawn from a `View`.

one each           `sweep`, `landscape`, `runs`, `maps`, `bifurcation`, `surface`, `space` (several
parameters), `training`, `log`
what they share    `style` (how they begin and are saved), `sheets` (sizes), `axis` (degrees,
periods), `run_paths` (a run and its look)
"""
