"""How good a finished training is, with intervals, tables and pictures."""
