//! Items that macros make, as far as the crates use them: `plugin!`, functions in other words, and rules that put their
//! arguments into a text.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Expr, File, Ident, Item, ItemMacro, Signature, Token, Type, Visibility, braced,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

/// The items of a macro call; `rules` finds the definition of a macro of the crate.
///
/// # Panics
/// If it is of a sort that is not known here, since its items would be missing without a word.
pub fn items(call: &ItemMacro, rules: impl Fn(&str) -> Option<TokenStream>) -> Vec<Item> {
    let name = call.mac.path.segments.last().expect("a path has segments");
    let name = name.ident.to_string();
    let tokens = call.mac.tokens.clone();
    match name.as_str() {
        // They make nothing that has a name, or only private things.
        "thread_local" | "collect" | "submit" => return Vec::new(),
        "plugin" => {
            let plugin: PluginCall =
                syn::parse2(tokens).unwrap_or_else(|error| panic!("`plugin!`: {error}"));
            return plugin.items();
        }
        _ => {}
    }
    if let Ok(function) = syn::parse2::<FunctionCall>(tokens.clone()) {
        return vec![Item::Fn(syn::ItemFn {
            attrs: function.attributes,
            vis: function.visibility,
            sig: function.signature,
            block: syn::parse_quote!({}),
        })];
    }
    let rules = rules(&name).unwrap_or_else(|| panic!("nobody knows what `{name}!` makes"));
    let text = applied(rules, tokens)
        .unwrap_or_else(|| panic!("the rules of `{name}!` are of a sort that is not read here"));
    let file: File = syn::parse2(text).unwrap_or_else(|error| panic!("`{name}!`: {error}"));
    file.items
}

/// `plugin! { /// .. pub struct Name as word: Kind { /// .. field: Type = default, } fn build .. }`
struct PluginCall {
    name: Ident,
    kind: Ident,
    fields: Punctuated<PluginField, Token![,]>,
}

struct PluginField {
    name: Ident,
    kind: Type,
}

impl Parse for PluginCall {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.parse::<Token![struct]>()?;
        let name = input.parse()?;
        if input.peek(Token![as]) {
            input.parse::<Token![as]>()?;
            input.parse::<Ident>()?;
        }
        input.parse::<Token![:]>()?;
        let kind = input.parse()?;
        let inner;
        braced!(inner in input);
        let fields = inner.parse_terminated(PluginField::parse, Token![,])?;
        input.parse::<Item>()?;
        Ok(Self { name, kind, fields })
    }
}

impl Parse for PluginField {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.call(Attribute::parse_outer)?;
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        let kind = input.parse()?;
        input.parse::<Token![=]>()?;
        input.parse::<Expr>()?;
        Ok(Self { name, kind })
    }
}

impl PluginCall {
    fn items(self) -> Vec<Item> {
        let Self { name, kind, .. } = self;
        let fields = self
            .fields
            .iter()
            .map(|PluginField { name, kind }| quote!(pub #name: #kind));
        let text = quote! {
            #[derive(Clone, Debug, Serialize, Deserialize, Default)]
            pub struct #name { #(#fields),* }
            impl Plugin<dyn #kind> for #name {}
        };
        let file: File = syn::parse2(text).expect("it is a struct and its implementation");
        file.items
    }
}

/// `pub fn name(..) -> .. = body;`
struct FunctionCall {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
}

impl Parse for FunctionCall {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        input.parse::<Token![=]>()?;
        input.parse::<Expr>()?;
        input.parse::<Token![;]>()?;
        Ok(Self {
            attributes,
            visibility,
            signature,
        })
    }
}

/// The body of the one rule in `rules`, with `arguments` in the places of its variables; none where there are several
/// rules, or repetitions.
fn applied(rules: TokenStream, arguments: TokenStream) -> Option<TokenStream> {
    let rules: Vec<_> = rules.into_iter().collect();
    let groups: Vec<_> = rules
        .iter()
        .filter_map(|token| match token {
            TokenTree::Group(group) => Some(group),
            _ => None,
        })
        .collect();
    let [matcher, body] = groups.as_slice() else {
        return None;
    };
    let mut wanted = matcher.stream().into_iter().peekable();
    let mut given = arguments.into_iter().peekable();
    let mut values: Vec<(String, TokenStream)> = Vec::new();
    while let Some(token) = wanted.next() {
        if !is(&token, '$') {
            // A bracket within the rule would have to be gone into.
            let same = given.next()?.to_string() == token.to_string();
            match token {
                TokenTree::Group(_) => return None,
                _ if same => continue,
                _ => return None,
            }
        }
        let TokenTree::Ident(name) = wanted.next()? else {
            return None;
        };
        let fragment = wanted.nth(1)?.to_string();
        let stop = wanted.peek().map(ToString::to_string);
        let mut value = TokenStream::new();
        while let Some(next) = given.peek() {
            let ends = stop.as_ref() == Some(&next.to_string());
            let one = ["ident", "literal"].contains(&fragment.as_str()) && !value.is_empty();
            if ends || one {
                break;
            }
            value.extend(given.next());
        }
        values.push((name.to_string(), value));
    }
    // A comma or the like after the last argument.
    given
        .all(|token| is(&token, ','))
        .then(|| filled(body.stream(), &values))
}

fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn filled(body: TokenStream, values: &[(String, TokenStream)]) -> TokenStream {
    let mut text = TokenStream::new();
    let mut body = body.into_iter().peekable();
    while let Some(token) = body.next() {
        match (&token, body.peek()) {
            (TokenTree::Punct(punct), Some(TokenTree::Ident(name))) if punct.as_char() == '$' => {
                let name = name.to_string();
                body.next();
                match values.iter().find(|value| value.0 == name) {
                    Some((_, value)) => text.extend(value.clone()),
                    None => text.extend(quote!(crate)),
                }
            }
            (TokenTree::Group(group), _) => {
                let inner = Group::new(group.delimiter(), filled(group.stream(), values));
                text.extend(inner.to_token_stream());
            }
            _ => text.extend([token]),
        }
    }
    text
}
