"""The diagnosis of a real training run, element by element.

`elements` (what is known of each watched number, and its verdict), `lines` (ranges, periods and
losses along one element), `kernels` (starts by least squares), `remedies` (training again with one
thing changed), `verdict` (all of it together, and the sentence at the end)
"""
