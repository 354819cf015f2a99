"""Studies: grids of trials, their execution, statistics and recommendations. Nothing is imported here."""
