//! Shared memory made before the first fork: per worker state, heartbeat, counters, in-flight requests.
