"""How a person sees it: figures, animation, report, console. Draws, computes nothing.

    the report         `report` (all files of a run, live or saved), `unfinished` (of a run without
                       a result), `markdown`, `page` (HTML)
    what is said       `blocks` (its form), `words` (every command's), `joint_words`,
                       `surface_words`, `image_words`, `phrases` (what all of them say alike)
    the terminal       `console`, `sketch` (the landscape in letters)
    the pictures       `figures`, `animation`

All is made of a `View`, a result's JSON and arrays, so that a saved run looks as it did live.
"""
