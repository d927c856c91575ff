"""How everything is trained: one loop, and an objective a file."""
