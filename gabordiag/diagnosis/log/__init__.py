"""The diagnosis from a log alone.

`table` (rows and columns of a file), `readers` (which column is what), `measures` (what the
columns show), `explain` (the verdict), `logged_run` (a log as a run on its objective)
"""
