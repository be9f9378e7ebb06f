//! Links of an HTML page and what stands beside them, by a streaming tokenizer: no tree is built.
//!
//! A *row* begins with a link into the folder and ends with the next link, table row, list item,
//! or line of preformatted text. Its date and size stand in the text behind the link, or in
//! attributes (Caddy).

use super::gather::Gather;
use super::links::{Here, Link};
use super::row;
use super::{Modified, Size};
use html5ever::TokenizerResult;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::{Rawtext, Rcdata, ScriptData};
use html5ever::tokenizer::{
    BufferQueue, CharacterTokens, StartTag, Tag, TagToken, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use std::cell::RefCell;

/// Dates and sizes stand within the first bytes behind a link; descriptions may be long.
const ROW_BYTES_MAX: usize = 512;
/// The tokenizer holds a tag or comment until its end; none of an index page comes near this.
const TAG_BYTES_MAX: usize = 1 << 20;
/// "Index of " stands at the beginning.
const HEADING_BYTES_MAX: usize = 64;
/// How the headings of index pages begin, lower case.
const INDEX_HEADINGS: &[&str] = &["index of", "directory listing", "directory:", "listing of"];

/// Reads one page. Not `Send`: the tokenizer's strings are not.
pub struct HtmlReader {
    tokenizer: Tokenizer<Sink>,
    /// Bytes since the last tag or text.
    unread_bytes: usize,
}

/// What a page turned out to be.
pub struct HtmlPage {
    pub gather: Gather,
    /// Something in it says that it is an index page.
    pub is_index: bool,
    /// It asks for a password.
    pub is_login: bool,
    /// Its end was there.
    pub is_whole: bool,
}

struct Sink(RefCell<State>);

struct State {
    here: Here,
    page: HtmlPage,
    row: Option<Row>,
    heading: Option<String>,
    in_pre: bool,
    /// Tags and texts so far: a page that goes on and on without one is a trap.
    tokens: u64,
}

struct Row {
    link: Link,
    href: Vec<u8>,
    /// Between `<a>` and `</a>`: the name, cut short by some.
    in_link: bool,
    text: String,
    size: Option<u64>,
    modified: Option<Modified>,
}

impl HtmlReader {
    pub fn new(here: Here, gather: Gather) -> HtmlReader {
        let page = HtmlPage { gather, is_index: false, is_login: false, is_whole: false };
        let state = State { here, page, row: None, heading: None, in_pre: false, tokens: 0 };
        HtmlReader { tokenizer: Tokenizer::new(Sink(RefCell::new(state)), TokenizerOpts::default()), unread_bytes: 0 }
    }

    /// Bytes of the page, cut anywhere.
    ///
    /// # Errors
    /// What is wrong with it, if it is a tag without end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let tokens = self.tokens();
        self.feed(latin1(bytes));
        self.unread_bytes = if self.tokens() == tokens { self.unread_bytes + bytes.len() } else { 0 };
        match self.unread_bytes > TAG_BYTES_MAX {
            true => Err(format!("sends an HTML page with a tag of more than {TAG_BYTES_MAX} bytes")),
            false => Ok(()),
        }
    }

    fn tokens(&self) -> u64 {
        self.tokenizer.sink.0.borrow().tokens
    }

    /// Found more than a folder may have?
    pub fn is_too_large(&self) -> bool {
        self.tokenizer.sink.0.borrow().page.gather.is_too_large()
    }

    /// The page has ended.
    pub fn finish(self) -> HtmlPage {
        self.tokenizer.end();
        let mut state = self.tokenizer.sink.0.into_inner();
        state.end_row();
        state.page
    }

    fn feed(&self, text: StrTendril) {
        let queue = BufferQueue::default();
        queue.push_back(text);
        while !queue.is_empty() {
            match self.tokenizer.feed(&queue) {
                TokenizerResult::Done => break,
                // Ours never asks for either; the loop goes on with what is left.
                TokenizerResult::Script(()) | TokenizerResult::EncodingIndicator(_) => {}
            }
        }
    }
}

/// Each byte as the character of that number: pages mix encodings, and names must come out byte
/// for byte. [`bytes_of`] turns it back.
fn latin1(bytes: &[u8]) -> StrTendril {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => StrTendril::from(text),
        _ => bytes.iter().map(|&byte| byte as char).collect(),
    }
}

/// Characters up to 255 are the bytes that they came from; above are entities, which are UTF-8.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line_number: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        state.tokens += u64::from(!matches!(token, Token::ParseError(_)));
        match token {
            TagToken(tag) if tag.kind == StartTag => return state.start_tag(&tag),
            TagToken(tag) => state.end_tag(&tag.name),
            CharacterTokens(text) => state.text(&text),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl State {
    fn start_tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        match &*tag.name {
            "a" => self.link(tag),
            "tr" | "li" => self.end_row(),
            "td" | "th" => {
                if let Some(row) = &mut self.row {
                    row.push("\t");
                    row.size = row.size.or(attribute(tag, "data-size").and_then(|size| size.trim().parse().ok()));
                }
            }
            "time" => {
                if let Some(row) = &mut self.row {
                    row.modified = row.modified.or(attribute(tag, "datetime").and_then(row::timestamp));
                }
            }
            "pre" => self.in_pre = true,
            "input" => {
                self.page.is_login |= attribute(tag, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("password"));
            }
            "title" => {
                self.heading = Some(String::new());
                return TokenSinkResult::RawData(Rcdata);
            }
            "h1" | "h2" => self.heading = Some(String::new()),
            // Their contents are no tags, whatever they look like.
            "script" => return TokenSinkResult::RawData(ScriptData),
            "style" | "noframes" | "iframe" => return TokenSinkResult::RawData(Rawtext),
            "textarea" => return TokenSinkResult::RawData(Rcdata),
            _ => {}
        }
        TokenSinkResult::Continue
    }

    fn end_tag(&mut self, name: &str) {
        match name {
            "a" => {
                if let Some(row) = &mut self.row {
                    row.in_link = false;
                }
            }
            "tr" | "li" | "ul" | "table" => self.end_row(),
            "pre" => {
                self.end_row();
                self.in_pre = false;
            }
            "title" | "h1" | "h2" => {
                let heading = self.heading.take().unwrap_or_default().trim_start().to_ascii_lowercase();
                self.page.is_index |= INDEX_HEADINGS.iter().any(|known| heading.starts_with(known));
            }
            "html" => self.page.is_whole = true,
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(heading) = &mut self.heading {
            heading.extend(text.chars().take(HEADING_BYTES_MAX.saturating_sub(heading.len())));
        }
        let Some(row) = &mut self.row else { return };
        if row.in_link {
            return;
        }
        match text.split_once('\n') {
            Some((line, _)) if self.in_pre => {
                row.push(line);
                self.end_row();
            }
            _ => row.push(text),
        }
    }

    fn link(&mut self, tag: &Tag) {
        let Some(href) = attribute(tag, "href") else { return };
        let href = bytes_of(href);
        if let Some(row) = &mut self.row
            && row.href == href
        {
            // The icon before a name links too; what follows belongs to both.
            row.in_link = true;
            return;
        }
        self.end_row();
        let link = self.here.resolve(&href);
        self.page.is_index |= matches!(link, Link::Parent | Link::Sort);
        self.row = Some(Row { link, href, in_link: true, text: String::new(), size: None, modified: None });
    }

    fn end_row(&mut self) {
        let Some(row) = self.row.take() else { return };
        let (dated, size) = row::read(&row.text);
        let modified = row.modified.or(dated);
        let size = row.size.map_or(size, Size::Exact);
        let in_table = modified.is_some();
        self.page.is_index |= in_table && matches!(row.link, Link::Entry { .. });
        self.page.gather.row(row.link, &row.href, in_table, size, modified);
    }
}

impl Row {
    fn push(&mut self, text: &str) {
        let left = ROW_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend(text.chars().take(left));
    }
}

fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| &*attribute.value)
}
