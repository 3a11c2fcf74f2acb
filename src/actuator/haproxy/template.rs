//! Renders HAProxy's configuration from a [`Model`] and a template.
//!
//! HAProxy's configuration has no quoting that a template could be trusted to apply, so nothing that would need it gets
//! in: [`Model::check`] names each bad value, and the engine itself refuses to print one that slipped through a user's
//! template. Only what the operator wrote as a snippet is printed as it is. Rendering is pure; whether HAProxy accepts the result is for [`apply`](super::apply()) to find out.
//!
//! The *revision* is a hash of everything rendered but the `description` line, which carries it: HAProxy then says in
//! `show info` which configuration it runs.

mod layout;
mod model;
mod revision;
mod snippet;

pub use model::{
    CheckModel, HttpCheck, Mode, Model, PoolModel, ProxyModel, ProxySnippets, ServerModel, ServiceModel,
    ServiceSnippets, Snippet, Timeouts, TlsModel,
};
pub use revision::{parse_description, revision};
pub use snippet::snippet_of;

use super::ident::{Ident, IdentError};
use super::secrets::without_secrets;
use layout::Layout;
use model::plain;
use std::io;

/// The template that is used unless the settings name another.
pub const DEFAULT_TEMPLATE: &str = include_str!("../../../templates/haproxy.cfg.tera");

/// Where a rescue line points while it is in maintenance: an address of documentation (RFC 5737), the discard port. If it
/// were ever used by mistake, nothing would answer.
pub const RESCUE_PLACEHOLDER: &str = "192.0.2.1:9";

/// The name under which a template is known to the engine, and shown in its errors.
const TEMPLATE_NAME: &str = "haproxy.cfg.tera";

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A value that cannot stand in a configuration.
    #[error("{what} {value:?} cannot stand in HAProxy's configuration: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A name that is too long once joined.
    #[error("the names {0} and {1} cannot be joined for HAProxy")]
    Name(String, String, #[source] IdentError),
    /// Services that cannot share a bind.
    #[error("services {first} and {second} cannot share {bind}: {why}")]
    Bind {
        /// The one.
        first: Ident,
        /// The other.
        second: Ident,
        /// What they share.
        bind: String,
        /// Why not.
        why: &'static str,
    },
    /// A service without anything to route to.
    #[error("service {0} has no pool with a server")]
    NoServer(Ident),
    /// The template has an error; the text shows its line.
    #[error("the template cannot be used: {0}")]
    Template(String),
    /// The template does not say who wrote it.
    #[error(
        "the template has no line `description supervisor={{{{ proxy.owner }}}} rev={{{{ revision }}}}` in `global`: \
         without it nobody can tell which configuration HAProxy runs"
    )]
    NoDescription,
    /// A template of the user's leaves out what the settings ask for: a bind in the clear, or a service that takes all requests.
    #[error(
        "the template leaves out {}: it is older than that setting, perhaps; `supervisor render --template` prints the built-in one, \
         to take it over from",
        .0.join(", ")
    )]
    LeftOut(Vec<String>),
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub text: String,
    /// The hash in its description.
    pub revision: String,
    /// The whole description, as `show info` shows it.
    pub description: String,
}

/// Renders `model` with `template` ([`DEFAULT_TEMPLATE`], or a user's).
pub fn render(model: &Model, template: &str) -> Result<Rendered, TemplateError> {
    model.check()?;
    let engine = engine(template).map_err(|error| template_error(template, error))?;
    let layout = Layout::of(model)?;
    // The hash leaves the description out, so any revision will do for the first pass.
    let draft = render_with(&engine, template, &layout, "0")?;
    let revision = revision(&draft);
    let text = render_with(&engine, template, &layout, &revision)?;
    let description = format!("supervisor={} rev={revision}", model.proxy.owner);
    let described = text.lines().filter_map(|line| line.trim().strip_prefix("description "));
    if !described.map(|value| value.trim().trim_matches('"')).any(|value| value == description) {
        return Err(TemplateError::NoDescription);
    }
    let left_out = left_out(model, &text);
    if !left_out.is_empty() {
        return Err(TemplateError::LeftOut(left_out));
    }
    Ok(Rendered { text, revision, description })
}

/// The settings of `model` that no line of the configuration shows, though clients would be served otherwise without them.
fn left_out(model: &Model, text: &str) -> Vec<String> {
    let shows = |words: [&str; 2]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    let mut left_out = Vec::new();
    for service in &model.services {
        let key = |name: &str| format!("services.{}.{name}", service.name);
        left_out
            .extend(service.tls.iter().filter(|tls| !shows(["crt", &tls.certificates])).map(|_| key("tls")));
        left_out.extend(service.path.iter().filter(|path| !shows(["path", path])).map(|_| key("path")));
    }
    let of_proxy = [
        &model.proxy.snippets.global,
        &model.proxy.snippets.defaults_http,
        &model.proxy.snippets.defaults_tcp,
    ];
    let of_services =
        model.services.iter().flat_map(|service| [&service.snippets.frontend, &service.snippets.backend]);
    let snippets = of_proxy.into_iter().chain(of_services).flatten();
    left_out.extend(
        snippets.filter(|snippet| !text.contains(&snippet::marked(snippet))).map(|of| of.key.clone()),
    );
    left_out
}

fn engine(template: &str) -> Result<tera::Tera, tera::Error> {
    let mut engine = tera::Tera::new();
    engine.autoescape_on([TEMPLATE_NAME]);
    engine.set_escape_fn(print_checked);
    engine.add_raw_template(TEMPLATE_NAME, template)?;
    Ok(engine)
}

fn render_with(
    engine: &tera::Tera,
    template: &str,
    layout: &Layout<'_>,
    revision: &str,
) -> Result<String, TemplateError> {
    let mut context =
        tera::Context::from_serialize(layout).map_err(|error| template_error(template, error))?;
    context.insert("revision", revision);
    context.insert("rescue_placeholder", RESCUE_PLACEHOLDER);
    engine.render(TEMPLATE_NAME, &context).map_err(|error| match is_refusal(&error) {
        true => TemplateError::Template(unprintable(template, &context)),
        false => template_error(template, error),
    })
}

/// Tera's own text has the template's line, and shows it, though it may have a password.
fn template_error(template: &str, error: tera::Error) -> TemplateError {
    TemplateError::Template(without_secrets(template, &error.to_string()))
}

/// Whether [`print_checked`] refused a value.
fn is_refusal(error: &tera::Error) -> bool {
    matches!(error.kind(), tera::ErrorKind::Io(_))
}

/// What is wrong with a template that prints what [`print_checked`] refuses. Tera does not say where: the line is found by
/// leaving out what the lines behind it print.
fn unprintable(template: &str, context: &tera::Context) -> String {
    let refused = |lines: usize| {
        let shorter = engine(&printing_until(template, lines));
        shorter
            .and_then(|engine| engine.render(TEMPLATE_NAME, context))
            .is_err_and(|error| is_refusal(&error))
    };
    // The search needs a handful of renderings even for a template of a thousand lines.
    let (mut good, mut bad) = (0, template.lines().count());
    let found = refused(bad);
    while found && bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if refused(middle) { bad = middle } else { good = middle }
    }
    let what = "prints a value with a blank, a quote, a newline or another character that HAProxy reads as something else";
    match template.lines().nth(bad.saturating_sub(1)).filter(|_| found) {
        Some(line) => {
            format!("{TEMPLATE_NAME}:{bad}: `{}` {what}", without_secrets(template, line.trim()))
        }
        None => format!("it {what}"),
    }
}

/// The template without the `{{ … }}` that begin behind its first `lines` lines.
fn printing_until(template: &str, lines: usize) -> String {
    let end_of_lines = template.split_inclusive('\n').take(lines).map(str::len).sum::<usize>();
    let (mut kept, mut rest) = template.split_at(end_of_lines);
    // What begins within the lines and ends behind them is kept as a whole.
    let open = kept.rfind("{{").filter(|at| !kept[*at..].contains("}}"));
    if let (Some(_), Some(close)) = (open, rest.find("}}")) {
        (kept, rest) = template.split_at(end_of_lines + close + 2);
    }
    let mut shorter = kept.to_owned();
    while let Some((before, print)) = rest.split_once("{{") {
        shorter.push_str(before);
        rest = print.split_once("}}").map_or("", |(_, behind)| behind);
    }
    shorter + rest
}

fn print_checked(value: &str, out: &mut dyn io::Write) -> io::Result<()> {
    if value.chars().all(plain) {
        out.write_all(value.as_bytes())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests;
