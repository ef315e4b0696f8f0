"""Compiled kernels: C beside the Python that defines the same functions, as one extension module."""
