//! Tokens as one line, spaced as `cargo fmt` does within a line.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// `node` on one line.
pub fn line(node: &impl ToTokens) -> String {
    let mut text = String::new();
    write(node.to_token_stream(), &mut text);
    text
}

/// A token; a sign of two characters is one, and so is a lifetime.
enum Piece {
    Word(String),
    Sign(String),
    Group(Delimiter, TokenStream),
}

fn write(tokens: TokenStream, text: &mut String) {
    let pieces = pieces(tokens);
    let mut before: Option<&Piece> = None;
    for (i, piece) in pieces.iter().enumerate() {
        let is = |piece: &Piece, wanted| matches!(piece, Piece::Sign(sign) if sign == wanted);
        // A comma at the end is there only where the list was broken into lines.
        if is(piece, ",") && pieces.get(i + 1).is_none_or(|next| is(next, ">")) {
            continue;
        }
        if before.is_some_and(|before| apart(before, piece)) {
            text.push(' ');
        }
        match piece {
            Piece::Word(own) | Piece::Sign(own) => text.push_str(own),
            Piece::Group(delimiter, inner) => {
                let (open, close) = match delimiter {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{ ", " }"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(inner.clone(), text);
                text.push_str(close);
            }
        }
        before = Some(piece);
    }
}

fn pieces(tokens: TokenStream) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        pieces.push(match token {
            TokenTree::Ident(ident) => Piece::Word(ident.to_string()),
            TokenTree::Literal(literal) => Piece::Word(literal.to_string()),
            TokenTree::Group(group) => Piece::Group(group.delimiter(), group.stream()),
            TokenTree::Punct(punct) => {
                let first = punct.as_char();
                match tokens.peek() {
                    Some(TokenTree::Ident(name)) if first == '\'' => {
                        let lifetime = format!("'{name}");
                        tokens.next();
                        Piece::Word(lifetime)
                    }
                    Some(TokenTree::Punct(next)) => {
                        let two = format!("{first}{}", next.as_char());
                        match ["::", "->", "=>", "..", "=="].contains(&two.as_str()) {
                            true => {
                                tokens.next();
                                Piece::Sign(two)
                            }
                            false => Piece::Sign(first.to_string()),
                        }
                    }
                    _ => Piece::Sign(first.to_string()),
                }
            }
        });
    }
    pieces
}

/// Whether there is a space between two tokens.
fn apart(before: &Piece, piece: &Piece) -> bool {
    use Piece::{Group, Sign, Word};
    match (before, piece) {
        (Sign(sign), next) => match sign.as_str() {
            "," | ";" | ":" | "->" | "=>" | "=" | "==" | "+" | "|" => true,
            ">" => match next {
                Sign(sign) => !tight(sign),
                Group(Delimiter::Parenthesis, _) => false,
                _ => true,
            },
            _ => false,
        },
        (_, Sign(sign)) => !tight(sign),
        (Word(word), Group(Delimiter::Parenthesis, _)) => {
            ["as", "dyn", "for", "impl", "in", "mut", "const", "where"].contains(&word.as_str())
        }
        _ => true,
    }
}

/// Signs that follow closely what stands before them.
fn tight(sign: &str) -> bool {
    [",", ";", ":", "::", ".", ">", "<", "!", "?"].contains(&sign)
}
