"""What is known about the music: a seeded performer whose every note is on record."""
