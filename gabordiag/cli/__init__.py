"""The command line: parse, call, show, exit code; nothing else.

    entry          `main` (runs the app, turns errors into exit codes)
    commands       `commands` (the app, and what each does)
    options        `options` (shared groups of them), `values` (texts that stand for numbers)
    around each    `session` (what was asked, folder, progress, result, exit)

What computes, draws or writes is imported when a command runs, so that help and mistakes are
answered at once.
"""
