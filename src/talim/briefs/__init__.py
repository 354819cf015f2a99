"""Usefulness: a task's brief, candidates for it, checks, reviews, what an accepted minute costs, delivery."""
