"""The tiny checkpoint and where a model's weights come from."""
