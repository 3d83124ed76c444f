"""The figures, all drawn from a `View`.

one each           `sweep`, `landscape`, `runs`, `paths`, `maps`, `map_labels`, `bifurcation`,
`surface`, `space` (runs of several parameters), `log`
what they share    `style` (colours, markers), `sheets` (sizes), `axis` (degrees, periods),
`run_paths` (a run and its look)
"""
