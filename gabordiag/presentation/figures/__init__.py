"""The figures, all drawn from a `View`.

all of them        `drawings` (and `Result.plot`)
one each           `sweep`, `landscape`, `runs`, `paths`, `maps`, `map_labels`, `bifurcation`,
`surface`, `joint`
what they share    `style` (colours, markers), `sheets` (sizes), `axis` (degrees, periods),
`run_paths` (a run and its look)
"""
