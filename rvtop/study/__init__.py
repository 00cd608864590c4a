"""Several sessions that are compared: each is an ordinary run with a folder of its own."""
