"""Designs: what people type, the places it means, the kinds of adapter, and what each costs; no PEFT, no base model."""
