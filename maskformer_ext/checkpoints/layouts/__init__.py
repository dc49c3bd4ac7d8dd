"""Layouts of weights: which names and shapes stand for which network, and how one layout becomes another."""
