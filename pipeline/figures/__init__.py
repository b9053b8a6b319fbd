"""How are results drawn? Arrays in, a matplotlib Figure out; saving is for others."""
