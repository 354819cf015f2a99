"""Pure functions on arrays: what is measured about the music."""
