"""What a notebook imports: open, predict, measure, check; building and running notebooks."""

from labs.course.lab import Lab as Lab
from labs.course.lab import open as open
