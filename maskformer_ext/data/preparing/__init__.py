"""What the command `prepare` does: check the files of a data set, and convert those of public ones."""
