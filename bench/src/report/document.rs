//! What a report says, before it is a page or a section of RESULTS.md: both are made of the same blocks.

use std::fmt::Write as _;

use crate::plot::Plot;
use crate::table::Table;

/// One part of a report, with a heading of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Chapter {
    pub title: String,
    pub blocks: Vec<Block>,
}

impl Chapter {
    pub fn of(title: impl Into<String>, blocks: impl IntoIterator<Item = Block>) -> Self {
        Self { title: title.into(), blocks: blocks.into_iter().collect() }
    }

    pub fn push(&mut self, block: Block) {
        self.blocks.push(block);
    }
}

/// A piece of a chapter. Texts may hold `code` in back quotes and **strong** words, and nothing else of Markdown.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Heading(String),
    Text(String),
    Notes(Vec<String>),
    Table(Table),
    Figure(Box<Figure>),
    /// What is there for those who look for it: a summary, and what is behind it.
    More(String, Vec<Block>),
    /// A file as it is: name and text.
    File(String, String),
    /// Figures that stand out.
    Cards(Vec<Card>),
}

/// A picture with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Names its file and its place in the page; unique within a run.
    pub key: String,
    pub plot: Plot,
    /// How to read it.
    pub caption: String,
    /// The same figures for those who want or need them in digits.
    pub table: Option<Table>,
}

/// A figure in large digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub label: String,
    pub value: String,
    pub detail: String,
    pub tone: Tone,
}

/// How a finding is coloured; its words say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Plain,
}

impl Tone {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Plain => "plain",
        }
    }
}

/// A picture as a file: its name and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub name: String,
    pub text: String,
}

/// Writes blocks as Markdown. Pictures are referred to below `folder` and collected.
pub fn markdown(blocks: &[Block], folder: &str, pictures: &mut Vec<Picture>) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Heading(text) => {
                let _ = writeln!(out, "#### {text}\n");
            }
            Block::Text(text) => {
                let _ = writeln!(out, "{text}\n");
            }
            Block::Notes(notes) => {
                for note in notes {
                    let _ = writeln!(out, "- {note}");
                }
                out.push('\n');
            }
            Block::Table(table) => {
                let _ = writeln!(out, "{}", table.markdown());
            }
            Block::Figure(figure) => {
                let name = format!("{}.svg", figure.key);
                let _ = writeln!(out, "![{}]({folder}/{name})\n", figure.plot.title().replace(['[', ']'], ""));
                pictures.push(Picture { name, text: figure.plot.file() });
            }
            Block::More(summary, blocks) => {
                let inside = markdown(blocks, folder, pictures);
                let _ = writeln!(out, "<details><summary>{summary}</summary>\n\n{inside}</details>\n");
            }
            // Kept in the run directory and in its page; RESULTS.md is for figures.
            Block::File(..) => {}
            Block::Cards(cards) => {
                for card in cards {
                    let _ = writeln!(out, "- {}: **{}** {}", card.label, card.value, card.detail);
                }
                out.push('\n');
            }
        }
    }
    out
}
