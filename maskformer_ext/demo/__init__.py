"""A page to try a model: pictures and videos are dragged in, thresholds are moved, and the masks follow at once.

- command.py reads the arguments of `demo`; server.py listens and guards, routes.py answers.
- model.py holds the network; media.py the files that were dragged in; views.py what the network said of them.
- answers.py makes what the page draws, downloads.py the files that it hands out; samples.py offers pictures.
- page/ is the page: one document, its style and its scripts. It asks nobody but this server.
"""
