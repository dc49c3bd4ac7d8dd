"""The network, its matching and its losses."""
