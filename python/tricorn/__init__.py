"""Tricorn: a drop-in replacement for Gunicorn, written in Rust."""
