"""Rows to bytes: one module a format."""
