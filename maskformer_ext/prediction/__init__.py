"""The work of `predict`: which files it reads, what it makes of each, and the folder that it writes."""
