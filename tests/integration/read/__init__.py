"""Reads over HTTP, and the tables behind them."""
