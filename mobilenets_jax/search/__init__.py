"""Search for networks: spaces, latency, rewards, and what proposes the next networks to try."""
