"""Human evaluation (paper section 6.1): ballots, and how they are counted."""
