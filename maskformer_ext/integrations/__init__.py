"""One line for other projects: their models, on our ops."""
