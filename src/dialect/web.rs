//! The addresses of the web pages: `/-/` and some of what is below it.

use url::form_urlencoded;

use super::{Names, PackageError, PackageRef, Reason, path};

/// Most characters of a search that are used.
const MAX_SEARCH_CHARS: usize = 200;
/// The parameter that has the text of a search.
const SEARCH_PARAMETER: &str = "q";

/// A web page, for people with a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebPage {
    /// `/-/`: the packages, and the state of the mirror.
    Packages(PackageSearch),
    /// `/-/packages/{package}`, and with `@{version}` one version of it.
    Package {
        /// The package.
        package: PackageRef,
        /// The version, as it is written.
        version: Option<String>,
        /// The page of the versions, from 1.
        page: u32,
    },
    /// `/-/health`: the state of the mirror and its upstreams.
    Health,
    /// `/-/setup`: how clients are set up.
    SetUp {
        /// The package of the examples, as it is written.
        package: Option<String>,
    },
    /// `/-/sign-in`: asks for credentials.
    SignIn,
    /// `/-/assets/{name}`: a style sheet, script or image of the pages.
    Asset(String),
}

/// Which packages the page `/-/` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageSearch {
    /// A text that the name or the description must contain; empty for all.
    pub text: String,
    /// The key after which the page begins; `None` for the first page.
    pub after: Option<String>,
    /// True to list also the packages that only upstreams list.
    pub all: bool,
}

/// Parses an address; `None` for one that is no web page. `path` does not begin with a slash.
///
/// # Errors
/// For a package that cannot be parsed, and a path that is malformed.
pub(super) fn parse(names: &Names, path: &str, query: &str) -> Result<Option<WebPage>, Reason> {
    let Some(rest) = path.strip_prefix('-') else { return Ok(None) };
    if matches!(rest, "" | "/") {
        return Ok(Some(WebPage::Packages(PackageSearch::parse(query))));
    }
    let Some(rest) = rest.strip_prefix('/') else { return Ok(None) };
    let segments = path::split(rest).map_err(|error| Reason::BadRequest(error.to_string()))?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    Ok(Some(match &segments[..] {
        ["packages", package @ ..] if !package.is_empty() => parse_package(names, &package.join("/"), query)?,
        ["health"] => WebPage::Health,
        ["setup"] => WebPage::SetUp { package: parameter(query, "package") },
        ["sign-in"] => WebPage::SignIn,
        ["assets", name] => WebPage::Asset((*name).to_owned()),
        _ => return Ok(None),
    }))
}

fn parse_package(names: &Names, text: &str, query: &str) -> Result<WebPage, Reason> {
    let mut parts = text.splitn(2, '@');
    let package = names.parse_package(parts.next().unwrap_or_default())?;
    let version = parts.next().filter(|version| !version.is_empty()).map(str::to_owned);
    let page = parameter(query, "page").and_then(|page| page.parse().ok()).unwrap_or(1).max(1);
    Ok(WebPage::Package { package, version, page })
}

impl From<PackageError> for Reason {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Name(error) => error.into(),
            PackageError::UnknownUpstream(_) => Self::NotFound("this mirror has no such upstream".into()),
        }
    }
}

impl PackageSearch {
    fn parse(query: &str) -> Self {
        let text = parameter(query, SEARCH_PARAMETER).unwrap_or_default();
        Self {
            text: text.trim().chars().take(MAX_SEARCH_CHARS).collect(),
            after: parameter(query, "after"),
            all: parameter(query, "all").is_some(),
        }
    }

    /// The query of the page after the key `after`; without one, that of the first page.
    pub fn query(&self, after: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.text.is_empty() {
            query.append_pair(SEARCH_PARAMETER, &self.text);
        }
        if self.all {
            query.append_pair("all", "1");
        }
        if let Some(after) = after {
            query.append_pair("after", after);
        }
        query.finish()
    }
}

/// The value of a parameter that is not empty; the first of several.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
}
