"""What `integrations.transformers` replaces: for each family of models one file with that name, and its parts.

`targets` is shared: labels in transformers' forms, as targets of ours.
"""
