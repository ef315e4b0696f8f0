"""Sums over people that merge: popularity, co-visitation, arms, moments."""
