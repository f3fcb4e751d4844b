"""The console: a page in the browser that talks to an agent, and shows why it answered when it did."""
