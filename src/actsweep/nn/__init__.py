"""The network of one member: layers, models, initializers, optimizers."""
