"""What the experiments share, and variants of the generator."""
