"""A user's code as an objective: a function, or parameters of a module.

`custom` (what is taken, and with which options), `parameters` (range, period and start, given or
found), `loading` (FILE.py:NAME, and calls of the user's code), `modules` (a loss at one point),
`evaluation` (in batches or one by one, of one parameter or of several), `numeric` (noise and
derivatives from values alone), `plain_loop` (a training loop that carries a module's state),
`training` (a network, its batches and its loss)
"""
