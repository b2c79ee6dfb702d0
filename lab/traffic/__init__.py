"""The traffic generator: sessions that ask an agent, at a bounded rate, for a bounded time."""
