"""The demo archive: synthetic, anatomically believable mammograms with their truth."""
