"""The embedded speech engines, each in a process of its own.

pocketsphinx holds the GIL while it decodes, espeak-ng has global state and a GPL library: neither is ever imported
by the server. ``process`` is the server's side, ``worker`` the other; ``frames`` is what they say to each other.
"""
