"""Shows what Jupyter shows: rows, frames, pictures and HTML. Loaded when it is first used.

Rows need nothing else; frames and pictures need the extra ``notebook``.
"""
