"""Other people's methods, small, on this compendium's own encoder and generator: what ours is compared with."""
