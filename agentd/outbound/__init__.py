"""What agentd asks of others on behalf of a call."""
