"""Adapter designs: expressions, sites, kinds, budgets and costs; without PEFT and without base models."""
