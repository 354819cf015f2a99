"""HTML parts that every page uses: page, players, plots, spectrograms. Nothing is imported here."""
