"""Why a run fails and what helps: measured, each cause tried with and without.

`facts` holds what was measured, `causes` tests each suspect, `remedies` tries each cure, `verdict`
puts them into one sentence; `joint`, `joint_causes`, `joint_remedies`, `joint_trials` do the same
for several parameters. `log` and `log_table` read a log, `log_measures` measures it, `explain`
judges it alone, `explanation` is what that says. `reproduction` is the question's own failure.

Every number that decides a verdict, and what happens on both sides of it, stands in `README.md`
beside this file; a test compares it with the code.
"""
