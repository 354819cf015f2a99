"""A Hugging Face Hub on the loopback interface, for tests that would need the network."""
