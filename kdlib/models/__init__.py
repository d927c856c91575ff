"""Networks and processes, and what a generator is conditioned on."""
