"""Figures, animations, reports and terminal output. Nothing is computed here.

    the report         `report` (all files of a run, live or saved), `unfinished` (of a run without
                       a result), `page` (HTML, Markdown)
    results            `registry` (how every kind is restored from JSON and arrays, said and drawn)
    what is said       `blocks` (its form), `answers` (to the question's own questions), `words`,
                       `phrases` (what these and figures share)
    the terminal       `console`, `sketch` (the landscape in letters)
    the pictures       `figures`, `animation`, `colors` (the table that all of them share)
    imports            `late` (functions that are imported when they are called)

All is made from a `View`, a result's JSON and arrays, so that a saved run looks as it did live.
"""
