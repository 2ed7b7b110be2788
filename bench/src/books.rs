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

/// Why a run with these books may not be quoted; `None` if all of them are 0.
///
/// # Errors
/// As [`read`].
pub fn wrong(admin: &str) -> Result<Option<String>, Failure> {
    Ok(sentence(&read(admin)?))
}

fn sentence(books: &[(String, i64)]) -> Option<String> {
    let off: Vec<String> =
        books.iter().filter(|(_, off)| *off != 0).map(|(name, off)| format!("{name} are off by {off}")).collect();
    (!off.is_empty()).then(|| format!("the appliance's books do not balance at the end: {}", off.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn whatever_is_not_0_is_named() {
        let books = |requests, writes| vec![("requests".to_owned(), requests), ("writes".to_owned(), writes)];
        assert_eq!(sentence(&books(0, 0)), None);
        let text = sentence(&books(-1, 2)).unwrap();
        assert!(text.contains("requests are off by -1") && text.contains("writes are off by 2"), "{text}");
    }
}
