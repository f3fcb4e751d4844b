"""Who may speak, and when: the rules of conversation. No clock, no I/O, standard library only."""
