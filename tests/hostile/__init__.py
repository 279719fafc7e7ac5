"""Input as it comes, and as somebody would make it who means harm: a table of kinds, and byte flips of good files."""
