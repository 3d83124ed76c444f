"""How a person sees it: figures, animation, report, explorer, console. Draws, computes nothing.

    the report         `report` (all files of a run, live or saved), `unfinished` (of a run without
                       a result), `markdown`, `page` (HTML), `second_drawer` (half of the figures)
    what is said       `blocks` (its form), `words` (every command's), `joint_words`,
                       `surface_words`, `image_words`, `phrases` (what all of them say alike)
    the terminal       `console`, `sketch` (the landscape in letters)
    the figures        `figures` (all of them, and `Result.plot`), `figure_sweep`,
                       `figure_landscape`, `figure_runs`, `figure_paths`, `figure_maps`,
                       `map_labels`, `figure_bifurcation`, `figure_surface`, `figure_joint`
    what they share    `style` (colours, markers), `sheets` (sizes), `parameter_axis` (degrees,
                       periods), `run_paths` (a run and its look), `palette` (few colours)
    the animation      `animation`, `storyboard` (what is shown when), `film` (GIF, MP4)
    the page           `explorer` (interactive; it computes in the browser)

All is made of a `View`, a result's JSON and arrays, so that a saved run looks as it did live.
"""
