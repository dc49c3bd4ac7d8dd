"""Reading weights: backbones, and later models of the original."""
