//! The two network dispatchers: connections over front servers, requests over replica servers.
//!
//! Pure: choices are made from counts that the caller passes in.

pub mod connections;
pub mod requests;
