//! The appliance's books: what it took less what it answered, refused, aborted and still has in hand. Whatever is not 0
//! at the end of a run makes its figures worthless: something was lost or counted twice.

use crate::failure::Failure;
use crate::http::get_json;

/// Every entry of the books as `GET /status` tells them, by name; each must be 0.
///
/// # Errors
/// The admin interface does not answer, or tells no books.
pub fn read(admin: &str) -> Result<Vec<(String, i64)>, Failure> {
    let status = get_json(admin, "/status")?;
    let books = status["books"].as_object().filter(|books| !books.is_empty());
    let books = books.ok_or_else(|| Failure::Failed(format!("http://{admin}/status tells no books")))?;
    let entries = books.iter().map(|(name, off)| (name.clone(), off.as_i64().unwrap_or(i64::MAX)));
    Ok(entries.collect())
}
