"""What a notebook imports: open, predict, measure, check; building and running notebooks."""
