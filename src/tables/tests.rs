//! The rule in a small world exhaustively, and queries against a plain model.
