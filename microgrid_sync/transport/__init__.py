"""The way to the server: the channel, unary calls with their retries, and streams."""
