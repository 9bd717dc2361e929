"""What can be computed without training: Gaussian integrals."""
