//! Which file an image loads, and whether a media query holds, on a desktop screen of one device pixel a CSS pixel.

/// The screen that users look at.
const SCREEN_WIDTH_PX: f64 = 1280.0;
const SCREEN_HEIGHT_PX: f64 = 720.0;

/// The address that an image with these attributes loads: of the candidates of `srcset` (and `src`) the smallest that
/// is large enough (section 4.8.4.3 of the HTML standard).
pub fn select(src: Option<&str>, srcset: &str, sizes: Option<&str>) -> Option<String> {
    let mut candidates: Vec<(f64, String)> = Vec::new();
    let mut by_width = false;
    for (address, descriptor) in split(srcset) {
        let density = match descriptor.strip_suffix('w').map(str::parse::<f64>) {
            Some(Ok(width)) => {
                by_width = true;
                width / source_size(sizes)
            }
            Some(Err(_)) => continue,
            None if descriptor.is_empty() => 1.0,
            None => match descriptor.strip_suffix('x').map(str::parse::<f64>) {
                Some(Ok(density)) => density,
                Some(Err(_)) | None => continue,
            },
        };
        if density > 0.0 && density.is_finite() {
            candidates.push((density, address.to_owned()));
        }
    }
    if let Some(src) = src.filter(|src| !src.is_empty() && !by_width && !candidates.iter().any(|(d, _)| *d == 1.0)) {
        candidates.push((1.0, src.to_owned()));
    }
    candidates.sort_by(|one, two| one.0.total_cmp(&two.0));
    let enough = candidates.iter().position(|(density, _)| *density >= 1.0);
    let place = enough.unwrap_or(candidates.len().saturating_sub(1));
    candidates.into_iter().nth(place).map(|(_, address)| address)
}

/// Addresses and descriptors of a `srcset`. Addresses may hold commas within, and descriptors in parentheses.
fn split(srcset: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = srcset;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        if rest.is_empty() {
            return found;
        }
        let (address, behind) = rest.split_at(rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len()));
        let bare = address.trim_end_matches(',');
        if bare.len() < address.len() {
            found.push((bare, ""));
            rest = behind;
            continue;
        }
        let mut depth = 0_i32;
        let end = behind.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth <= 0
        });
        let (descriptor, behind) = behind.split_at(end.unwrap_or(behind.len()));
        found.push((address, descriptor.trim()));
        rest = behind;
    }
}

/// The width in pixels that `sizes` says the image will have; the whole screen if it does not say.
fn source_size(sizes: Option<&str>) -> f64 {
    let entries = sizes.unwrap_or("").split(',').map(str::trim);
    let chosen = entries.filter_map(|entry| {
        let (condition, length) = entry.rsplit_once([' ', ')']).unwrap_or(("", entry));
        // The parenthesis went with the split.
        let closed = condition.matches('(').count() > condition.matches(')').count();
        let condition = if closed { format!("{condition})") } else { condition.to_owned() };
        length_px(length.trim()).filter(|_| media_holds(&condition))
    });
    chosen.into_iter().next().filter(|px| *px > 0.0).unwrap_or(SCREEN_WIDTH_PX)
}

fn length_px(text: &str) -> Option<f64> {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|digits| digits.trim().parse::<f64>().ok());
    number("vw")
        .map(|share| share * SCREEN_WIDTH_PX / 100.0)
        .or_else(|| number("px"))
        .or_else(|| number("rem").or_else(|| number("em")).map(|em| em * 16.0))
}

/// Whether a media query holds on this screen. Features that are not known do not hold.
pub fn media_holds(query: &str) -> bool {
    let query = query.trim().to_ascii_lowercase();
    query.is_empty() || query.split(',').any(|one| one.split(" and ").all(|part| part_holds(part.trim())))
}

fn part_holds(part: &str) -> bool {
    let part = part.strip_prefix("only ").unwrap_or(part).trim();
    let Some(feature) = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) else {
        return matches!(part, "all" | "screen");
    };
    let Some((name, value)) = feature.split_once(':') else {
        return matches!(feature.trim(), "color" | "width" | "hover");
    };
    let (name, value) = (name.trim(), value.trim());
    let compare = |holds: fn(f64, f64) -> bool, screen| length_px(value).is_some_and(|px| holds(screen, px));
    match name {
        "min-width" => compare(|screen, px| screen >= px, SCREEN_WIDTH_PX),
        "max-width" => compare(|screen, px| screen <= px, SCREEN_WIDTH_PX),
        "min-height" => compare(|screen, px| screen >= px, SCREEN_HEIGHT_PX),
        "max-height" => compare(|screen, px| screen <= px, SCREEN_HEIGHT_PX),
        "orientation" => value == "landscape",
        "prefers-color-scheme" => value == "light",
        "prefers-reduced-motion" => value == "no-preference",
        _ => false,
    }
}

/// Whether browsers show images of this type.
pub fn type_is_shown(kind: &str) -> bool {
    const TYPES: [&str; 11] = [
        "image/avif",
        "image/jxl",
        "image/webp",
        "image/png",
        "image/apng",
        "image/jpeg",
        "image/gif",
        "image/svg+xml",
        "image/bmp",
        "image/x-icon",
        "image/vnd.microsoft.icon",
    ];
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.is_empty() || TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests {
    use super::{media_holds, select, type_is_shown};

    #[test]
    fn the_smallest_candidate_that_is_large_enough_is_loaded() {
        let cases = [
            (Some("/a"), "", None, Some("/a")),
            (Some("/a"), "/b 2x", None, Some("/a")),
            (Some("/a"), "/b 1x, /c 2x", None, Some("/b")),
            (None, "/b 0.5x, /c 0.7x", None, Some("/c")),
            (Some("/a"), "/s 640w, /m 1280w, /l 2560w", None, Some("/m")),
            (Some("/a"), "/s 640w, /m 1280w, /l 2560w", Some("50vw"), Some("/s")),
            (
                Some("/a"),
                "/s 640w,/m 1280w",
                Some("(max-width: 600px) 100vw, (min-width: 900px) 300px, 10px"),
                Some("/s"),
            ),
            (Some("/a"), "/s 300w,/m 1280w", Some("(max-width: 600px) 100vw, 1000px"), Some("/m")),
            (Some("/a"), "/b,c, /d 2x", None, Some("/b,c")),
            (Some("/a"), "/b 1y, /c 1q", None, Some("/a")),
            (Some(""), "", None, None),
        ];
        for (src, srcset, sizes, expected) in cases {
            assert_eq!(select(src, srcset, sizes).as_deref(), expected, "{srcset} {sizes:?}");
        }
    }

    #[test]
    fn media_queries_hold_on_a_desktop_screen() {
        for query in ["", "all", "screen and (min-width: 800px)", "(max-width: 1px), (orientation: landscape)"] {
            assert!(media_holds(query), "{query}");
        }
        for query in ["print", "(max-width: 50em)", "(prefers-color-scheme: dark)", "(unknown: 1)", "not screen"] {
            assert!(!media_holds(query), "{query}");
        }
        assert!(type_is_shown("image/WebP") && type_is_shown("") && !type_is_shown("image/x-unknown"));
    }
}
