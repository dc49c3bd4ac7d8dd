"""Pictures for people: segments, queries, charts and their captions."""
