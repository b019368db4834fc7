"""Load that `wrk` cannot make."""
