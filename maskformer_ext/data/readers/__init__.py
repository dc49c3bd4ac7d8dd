"""Turn files into samples: one class per kind of data set, and the digits, which are drawn."""
