"""Plumbing below, programs above (`infra.apps`, `infra.cli`); the two never mix."""
