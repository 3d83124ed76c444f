"""`python -m gabordiag`."""

from gabordiag.cli.main import main

if __name__ == "__main__":
    main()
