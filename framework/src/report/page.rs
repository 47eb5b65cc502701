//! The page around the sections: head, style, and the parts that are plain text.

use super::text::escape;

/// Unreadable images listed on the page; the rest is counted.
const LISTED: usize = 1000;

/// The whole page.
pub fn page(name: &str, sections: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{name} · smallfry</title><style>{STYLE}</style></head><body>\
         <header><h1>{name}</h1><p class=\"note\">smallfry run</p></header><main>{sections}</main></body></html>\n",
        name = escape(name)
    )
}

/// The section of images that could not be read.
pub fn unreadable(images: &[(String, String, String)]) -> String {
    if images.is_empty() {
        return String::new();
    }
    let rows: String = images
        .iter()
        .take(LISTED)
        .map(|(stage, name, reason)| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(stage),
                escape(name),
                escape(reason)
            )
        })
        .collect();
    let more = match images.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(
            "<p class=\"note\">and {more} more, in <code>log.jsonl</code> and <code>results.json</code></p>"
        ),
    };
    format!(
        "<section><h2>Unreadable images</h2><p class=\"note\">Training replaced them by others, evaluation left them out.</p>\
         <div class=\"scroll\"><table class=\"text\"><thead><tr><th>stage</th><th>image</th><th>reason</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>{more}</section>"
    )
}

/// The section of the configuration and the receipt.
pub fn files(configuration: &str, receipt: &str) -> String {
    let block = |title: &str, text: &str, open: &str| match text {
        "" => String::new(),
        text => format!(
            "<details{open}><summary>{title}</summary><pre>{}</pre></details>",
            escape(text)
        ),
    };
    format!(
        "<section><h2>Configuration</h2>{}{}</section>",
        block(
            "Every parameter (<code>resolved.ron</code>)",
            configuration,
            " open"
        ),
        block("What produced it (<code>receipt.json</code>)", receipt, "")
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--ink:#1d2126;--soft:#646c76;--rule:#e3e1dc;--best:#0b6b4f;\
--c0:#2563b8;--c1:#d0661a;--c2:#0f8a6c;--c3:#8a4fb0;--c4:#b8324f;--c5:#6b7280}\
@media(prefers-color-scheme:dark){:root{--paper:#15181c;--card:#1d2126;--ink:#e7e9ec;--soft:#9aa3ad;--rule:#333a42;--best:#5fd3ae;\
--c0:#6ea8f5;--c1:#f0985a;--c2:#4fc9a6;--c3:#c198e3;--c4:#f0819a;--c5:#a3abb5}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
header,main{max-width:1180px;margin:0 auto;padding:0 20px}header{padding-top:32px}\
h1{font-size:1.9rem;line-height:1.2;margin:0;overflow-wrap:anywhere}\
h2{font-size:1.15rem;margin:0 0 12px;overflow-wrap:anywhere}h2 em{font-style:normal;color:var(--c0)}\
section{margin:28px 0}.note,small{color:var(--soft)}.note{margin:0 0 12px}\
small{display:block;font-weight:400;font-size:.78rem;overflow-wrap:anywhere;text-wrap:balance}\
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px}\
table{border-collapse:collapse;width:100%;min-width:540px}table.single{min-width:0}\
.metric th{padding-bottom:2px;font-weight:400;font-size:.82rem;color:var(--soft);overflow-wrap:anywhere}.metric+tr>*{border-top:0}.metric+tr~tr:not(.metric)>*{border-top:0}\
.refused{font-size:.85rem;color:var(--soft);overflow-wrap:anywhere}\
th small{max-width:34ch;margin-left:auto}th:first-child small{margin-left:0}\
th,td{padding:10px 14px;text-align:right;vertical-align:top;border-top:1px solid var(--rule);font-variant-numeric:tabular-nums}\
thead th{border-top:0}th:first-child,.text th,.text td{text-align:left}td{font-size:1.05rem}.text td{font-size:.9rem;overflow-wrap:anywhere}\
td.best{color:var(--best);font-weight:650}\
.facts{display:flex;flex-wrap:wrap;gap:8px 28px;margin:0 0 14px}.facts dt{color:var(--soft);font-size:.78rem}.facts dd{margin:0;font-variant-numeric:tabular-nums}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:14px}\
.scroll+*,.charts+*,.lists+*{margin-top:14px}\
.list{max-height:420px;overflow-y:auto;margin-top:10px}.list th,.list td{padding:3px 14px 3px 0;font-weight:400;font-size:.9rem}\
figure{margin:0;padding:12px 12px 6px;background:var(--card);border:1px solid var(--rule);border-radius:10px}\
figcaption{font-size:.9rem;font-weight:600;margin-bottom:4px}\
.key{font-weight:400;font-size:.8rem;margin-left:12px;overflow-wrap:anywhere}.key::before{content:'';display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:5px;vertical-align:middle;background:currentColor}\
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:11.5px}\
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--rule);fill:none}\
.level{stroke:var(--soft);fill:none;stroke-dasharray:5 4}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}.line.faint{stroke-width:1.2;opacity:.45}\
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}\
.line{stroke:currentColor}circle{fill:currentColor}\
.samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));gap:10px}\
.sample{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;gap:4px}\
.maps{grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr))}.map{display:block;width:100%;height:auto}a{color:var(--c0)}\
.sample img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;background:var(--rule)}\
details{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:10px 14px;margin-bottom:10px}\
summary{cursor:pointer;overflow-wrap:anywhere}summary .note{font-size:.85rem}pre{overflow-x:auto;font-size:.82rem;line-height:1.45;margin:10px 0 0}\
@media(max-width:600px){header,main{padding:0 12px}table{min-width:340px}th,td{padding:8px 9px}td{font-size:.95rem}}";
