"""The discrete backbone: a transformer over the codes of a VQGAN."""
