"""A user's code as an `Objective`: a function, or a parameter of a module.

`custom` (the front door), `loading` (FILE.py:NAME, and calls of the user's code), `modules`,
`period`, `evaluation` (in batches or one by one), `numeric` (noise and derivatives from values
alone), `streams` (random numbers)
"""
