//! The change log: what a crash left in it reaches the right columns, whatever became of the code.
