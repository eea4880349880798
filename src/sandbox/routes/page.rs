//! The Connect page as text: HTML and its style sheet.
//!
//! It must never write a value of a request or of the model into the page without escaping it.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`].

use crate::sandbox::model::{CONNECT_PATH, ConnectLink, ConnectVisit};

/// Path of the style sheet, below [`CONNECT_PATH`].
pub(super) const STYLE_PATH: &str = "/connect/style.css";

pub(super) const STYLE: &str = "\
body { margin: 0; background: #f3f5f4; color: #17211c; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 28rem; margin: 3rem auto; padding: 1.5rem 2rem 2rem; background: #fff; border-radius: 8px; }
h1 { margin: 0 0 .5rem; font-size: 1.4rem; }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600; }
select, input { box-sizing: border-box; width: 100%; padding: .5rem; border: 1px solid #7b8a82; border-radius: 4px;
  background: #fff; color: inherit; font: inherit; }
button { display: block; width: 100%; margin-top: .75rem; padding: .6rem; border: 1px solid #1f6f4a; border-radius: 4px;
  background: #fff; color: #1f6f4a; font: inherit; cursor: pointer; }
button.first { margin-top: 1.5rem; background: #1f6f4a; color: #fff; }
:focus-visible { outline: 3px solid #f2b705; outline-offset: 2px; }
.failed { padding: .5rem .75rem; border-left: 4px solid #b3261e; background: #fbeceb; }
.note { margin: 1.5rem 0 0; color: #55615b; font-size: .875rem; }
";

/// Manufacturers to choose from, the sandbox's own first.
const MANUFACTURERS: [&str; 6] = ["Sandbox", "Bosch", "Daikin", "Nibe", "Vaillant", "Viessmann"];

/// The form that the customer fills in; `failed` tells them why they see it again.
pub(super) fn form(link: ConnectLink, visit: &ConnectVisit, failed: Option<&str>) -> String {
    let (name, id) = link.parameter();
    let failed = failed.map(|why| format!("<p class=\"failed\" role=\"alert\">{}</p>\n", escape(why)));
    let (title, lead, questions, button) = match &visit.known {
        None => ("Connect your heat pump", "Choose your heat pump.".to_owned(), questions(), "Connect"),
        Some((manufacturer, model)) => {
            let lead = format!("{manufacturer} no longer lets us reach your heat pump {model}.");
            ("Reconnect your heat pump", escape(&lead), String::new(), "Log in again")
        }
    };
    let failed = failed.unwrap_or_default();
    let body = format!(
        "<h1>{title}</h1>\n{failed}<p>{lead}</p>\n<form method=\"post\" action=\"{CONNECT_PATH}\">\n\
         <input type=\"hidden\" name=\"{name}\" value=\"{id}\">\n{questions}\
         <button class=\"first\" name=\"outcome\" value=\"connect\">{button}</button>\n\
         <button name=\"outcome\" value=\"refuse\">Let the manufacturer refuse</button>\n\
         <button name=\"outcome\" value=\"cancel\">Cancel</button>\n</form>\n\
         <p class=\"note\">This is the sandbox's stand-in for Podero's page. It asks for no password.</p>\n"
    );
    whole(title, &body)
}

/// A page that tells one thing and asks nothing.
pub(super) fn told(title: &str, told: &str) -> String {
    whole(title, &format!("<h1>{}</h1>\n<p>{}</p>\n", escape(title), escape(told)))
}

fn questions() -> String {
    let options: String = MANUFACTURERS.map(|name| format!("<option>{name}</option>")).concat();
    format!(
        "<label for=\"manufacturer\">Manufacturer</label>\n\
         <select id=\"manufacturer\" name=\"manufacturer\">{options}</select>\n\
         <label for=\"model\">Model</label>\n\
         <input id=\"model\" name=\"model\" maxlength=\"100\" placeholder=\"SB-1\" autocomplete=\"off\">\n"
    )
}

fn whole(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <link rel=\"stylesheet\" href=\"{STYLE_PATH}\">\n<link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n<main>\n\
         {body}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

/// The text as HTML shows it, in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::model::ReturnUrls;
    use uuid::Uuid;

    #[test]
    fn the_model_of_a_heat_pump_cannot_write_into_the_page() {
        let known = Some(("<script>".to_owned(), "\"onload='x'&".to_owned()));
        let visit = ConnectVisit { known, urls: ReturnUrls::default() };
        let page = form(ConnectLink::Reconnection(Uuid::nil()), &visit, None);
        assert!(page.contains("&lt;script&gt;") && page.contains("&quot;onload=&#39;x&#39;&amp;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }
}
