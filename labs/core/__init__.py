"""Record, configuration and statistics: what every other package stands on. Imports nothing of labs."""
