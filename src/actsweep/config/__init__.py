"""What a run is: its schema, its checks, how it is composed, and its identity. No jax."""
