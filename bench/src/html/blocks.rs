//! Blocks of a report as elements of a page.

use crate::markup::{Element, element};
use crate::plot::Width;
use crate::report::document::{Block, Card, Figure};
use crate::table::Table;

/// The elements of blocks. `place` makes names of elements unique within the page.
pub fn elements(blocks: &[Block], place: &str) -> Vec<Element> {
    let each = |(index, block): (usize, &Block)| block_element(block, &format!("{place}-{}", index + 1));
    blocks.iter().enumerate().map(each).collect()
}

fn block_element(block: &Block, place: &str) -> Element {
    match block {
        Block::Heading(text) => rich("h3", text),
        Block::Text(text) => rich("p", text),
        Block::Notes(notes) => element("ul").class("notes").children(notes.iter().map(|note| rich("li", note))),
        Block::Table(table) => table_element(table, "Figures"),
        Block::Figure(figure) => figure_element(figure, place),
        Block::More(summary, blocks) => {
            details(summary).child(element("div").class("inside").children(elements(blocks, place)))
        }
        Block::File(name, text) => {
            let text = element("pre").set("tabindex", "0").set("aria-label", name.clone()).text(text.clone());
            details(name).class("file").child(text)
        }
        Block::Cards(cards) => element("ul").class("cards").children(cards.iter().map(card_element)),
    }
}

fn details(summary: &str) -> Element {
    element("details").child(rich("summary", summary))
}

fn figure_element(figure: &Figure, place: &str) -> Element {
    let picture = |width| figure.plot.inline(width, place);
    let mut out = element("figure").child(picture(Width::Desktop)).child(picture(Width::Phone));
    if !figure.caption.is_empty() {
        out = out.child(rich("figcaption", &figure.caption));
    }
    match &figure.table {
        Some(table) => {
            let title = format!("Figures of “{}”", figure.plot.title());
            out.child(details("In digits").child(table_element(table, &title)))
        }
        None => out,
    }
}

/// A table in a box of its own that scrolls where the screen is narrow; the keyboard reaches it.
fn table_element(table: &Table, label: &str) -> Element {
    let cell = |name: &'static str, column: usize, text: &str| {
        let cell = rich(name, text);
        if table.is_text(column) { cell.class("words") } else { cell }
    };
    let header = table.header().iter().enumerate().map(|(column, text)| cell("th", column, text).set("scope", "col"));
    let rows = table.rows().iter().map(|row| {
        let cells = row.iter().enumerate().map(|(column, text)| match column {
            0 => cell("th", column, text).set("scope", "row"),
            _ => cell("td", column, text),
        });
        element("tr").children(cells)
    });
    element("div").class("scroll").set("tabindex", "0").set("role", "region").set("aria-label", label).child(
        element("table")
            .child(element("thead").child(element("tr").children(header)))
            .child(element("tbody").children(rows)),
    )
}

fn card_element(card: &Card) -> Element {
    element("li")
        .class(format!("card {}", card.tone.name()))
        .child(element("span").class("label").text(card.label.clone()))
        .child(element("span").class("value").text(card.value.clone()))
        .child(element("span").class("detail").text(card.detail.clone()))
}

/// Text with `code` and **strong** words in it.
pub fn rich(name: &'static str, text: &str) -> Element {
    let mut out = element(name);
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            out = out.child(element("code").text(part));
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            out = match index % 2 {
                1 => out.child(element("strong").text(part)),
                _ if part.is_empty() => out,
                _ => out.text(part),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{elements, rich};
    use crate::report::document::Block;
    use crate::table::Table;

    #[test]
    fn words_are_marked() {
        assert_eq!(
            rich("p", "run `a < b` and **see**").markup(),
            "<p>run <code>a &lt; b</code> and <strong>see</strong></p>"
        );
    }

    #[test]
    fn tables_say_what_their_cells_are() {
        let mut table = Table::new(&["system", "p99"]);
        table.push(vec!["nginx".into(), "1.23 ms".into()]);
        let found = elements(&[Block::Table(table)], "x")[0].markup();
        assert!(found.contains("<th class=\"words\" scope=\"row\">nginx</th><td>1.23 ms</td>"), "{found}");
        assert!(found.contains("tabindex=\"0\""), "{found}");
    }
}
