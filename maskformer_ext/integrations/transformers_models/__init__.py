"""What `integrations.transformers` replaces: for each family of models one file with that name, and its parts.

Shared are `targets` (labels in transformers' forms, as targets of ours) and `layers` (predictions of inner layers on
demand). `point_loss` and `masked_attention` serve Mask2Former and its relatives.
"""
