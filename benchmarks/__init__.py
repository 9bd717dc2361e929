"""What the product is measured against, and how long it takes; not part of the package."""
