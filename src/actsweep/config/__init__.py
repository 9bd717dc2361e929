"""The config of a run: schema, checks, composition and identity. No jax."""
