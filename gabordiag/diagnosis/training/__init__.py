"""The diagnosis of a real training run, element by element.

`elements` (the loss along each watched number, and its verdict), `kernels` (starts by least
squares), `remedies` (training again with one thing changed), `verdict` (all of it together)
"""
