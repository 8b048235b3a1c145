"""The experiments of Week 5."""
