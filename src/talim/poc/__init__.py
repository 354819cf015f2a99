"""The proof of concept: from a folder of recordings to a report, in stages with gates fixed beforehand."""
