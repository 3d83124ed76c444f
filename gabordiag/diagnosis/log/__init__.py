"""The diagnosis from a log alone.

`table` (rows and columns of a file), `readers` (which column is what), `measures` (what the
columns show), `explain` (the verdict)
"""
