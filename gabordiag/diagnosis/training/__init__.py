"""The diagnosis of a real training run, element by element.

`lines` (the loss along each watched number), `facts` (the training as a whole), `measured` (one
number), `causes` (why it is not where it should be), `elements` (a number with its verdict),
`kernels` (starts by least squares), `remedies` (training again with one thing changed), `verdict`
(all of it together)
"""
