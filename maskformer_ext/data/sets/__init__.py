"""One file per data set: its description, and what builds it. None of them imports torch at its top."""
