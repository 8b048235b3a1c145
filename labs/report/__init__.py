"""Figures, widgets and HTML: pure functions of Records."""
