"""The figures, all drawn from a `View`.

one each           `landscape` (and its sweep), `runs`, `maps`, `bifurcation`, `surface`, `space`
(several parameters), `training`, `atlas`
what they share    `style` (how they begin and are saved), `sheets` (sizes), `axis` (degrees,
periods)
"""
