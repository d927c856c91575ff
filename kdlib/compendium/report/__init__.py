"""Figures, tables and the site: what readers open from disk, with no network."""
