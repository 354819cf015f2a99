"""People: blind listening tests, and what their votes say. Nothing is imported here."""
