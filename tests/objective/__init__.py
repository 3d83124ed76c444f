"""Tests of `gabordiag.objective`."""
