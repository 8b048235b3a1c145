"""Checks of Week 5, one module a notebook."""
