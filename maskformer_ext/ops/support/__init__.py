"""What the ops share: the library and its fallback, checks of arguments and targets, resized maps, constants."""
