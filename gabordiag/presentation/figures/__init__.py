"""The figures, all drawn from a `View`.

one each           `landscape` (and its sweep), `runs`, `maps`, `bifurcation`, `surface`, `space`
(several parameters), `training`, `atlas`
what they share    `run_paths` (runs with their logs and styles), `style` (how they begin and are
saved), `sheets` (sizes), `axis` (degrees, periods)
"""
