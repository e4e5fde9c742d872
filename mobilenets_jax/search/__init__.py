"""Search for networks: spaces, latency, rewards, and controllers that propose the next networks to try."""
