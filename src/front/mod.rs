//! A front server: takes connections, parses requests, routes them among the enterprise applications.
