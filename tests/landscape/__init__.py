"""Tests of `gabordiag.landscape`."""
