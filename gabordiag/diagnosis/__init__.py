"""Why a run fails and what helps: measured, with each suspected cause present and removed.

`evidence` holds what was measured, `causes` tests each suspect, `remedies` tries each cure,
`verdict` puts them into one sentence, for one parameter and for several. `log` judges a log alone.
`reproduction` is the question's own failure.

Every number that decides a verdict, and what happens on both sides of it, stands in `README.md`
beside this file; a test compares it with the code.
"""
