"""Tests of the lab package and of the notebooks."""
