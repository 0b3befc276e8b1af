"""The service: what was decided and shown, what came of it, and what is learned from that."""
