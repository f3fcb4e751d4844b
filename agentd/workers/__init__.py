"""Several processes on one port: a parent that serves nothing, and workers that share its listening socket."""
