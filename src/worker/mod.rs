//! A worker: one pinned thread, one engine, and the roles that the profile gives it.
