"""The proof of concept: a staged plan from a folder of recordings to a page, stopped at gates written beforehand."""
