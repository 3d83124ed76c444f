"""Run folders: created, streamed to, listed, loaded; every file whole or absent.

`folder`    a run's folder while the run goes on, and its result.json
`saved`     folders read back, finished or not, and the list of all
`files`     how files survive a kill or a full disk, and who may write to a folder
`formats`   JSON, TOML and tables
"""
