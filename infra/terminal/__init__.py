"""How text and progress are printed, for people."""
