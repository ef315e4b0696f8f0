"""Mathematics: no clock, no socket, no global random generator."""
