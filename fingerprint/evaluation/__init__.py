"""Queries made from recordings, and how often they are answered rightly."""
