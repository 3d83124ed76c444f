"""Why a run fails and what helps: measured, each cause tried with and without.

`facts` holds what was measured, `causes` tests each suspect, `remedies` tries each cure, `verdict`
puts them into one sentence; `log` reads a log alone, `reproduction` is the question's own failure.
"""
