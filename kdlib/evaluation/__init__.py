"""What is measured: distances between sets of pictures, a judge, comparisons with intervals, scores, people."""
