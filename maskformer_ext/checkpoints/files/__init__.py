"""Files of weights, in every format, read without running what is in them."""
