"""Musical traditions as data: modes, cycles, ornaments, names, and recognition of modes and cycles."""
