"""Where the files of own data lie, by format: found without torch, and without reading more than names and heads."""
