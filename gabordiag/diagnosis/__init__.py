"""Why a run fails and what helps: measured, with each suspected cause present and removed.

`evidence` holds what was measured, `causes` tests each cause, `remedies` tries each remedy,
`verdict` puts them into one sentence, for one parameter and for several. `log` judges a log alone,
`training` the learned filters of a network one by one. `reproduction` is the question's own
failure, `bank` that of a bank of filters, `readout` that of one of which only a sum is seen.

Every named number that decides a verdict, and what happens on both sides of it, stands in
`README.md` beside this file; a test compares it with the code.
"""
