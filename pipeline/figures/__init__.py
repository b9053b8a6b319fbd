"""How are results drawn? Arrays in, a matplotlib Figure out; saving is for others."""

import matplotlib

matplotlib.rcParams["text.parse_math"] = False  # a class may be called $5_$10
