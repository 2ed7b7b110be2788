//! Who may do what: the first code table authorizes access to the other code tables by role, and sessions say who.
//!
//! Architecture invariant: the authorization table has no default Allow.

pub mod session;
pub mod table;

pub use session::{SessionFault, SessionKey};
pub use table::{AuthorityTable, Decision, Rule, Verb, roles_of};
