"""The numbers of Week 5."""
