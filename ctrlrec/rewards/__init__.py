"""Rule rewards: one small function per equation of the paper, and where rewards go."""
