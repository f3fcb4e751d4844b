"""`agentd load`: many synthetic callers on a listen socket, measured from outside; and vendors that need no account."""
