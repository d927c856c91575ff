"""Manipulation of a picture by a text alone (paper section 3.1)."""
