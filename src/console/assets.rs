//! The stylesheet, the script and the icon, which are part of the program. Their names have a digest of their content, so that a
//! browser keeps them for ever, and a new program has new ones.
//!
//! Before: every page names them. After: nothing.

use std::sync::LazyLock;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};
use sha2::{Digest, Sha256};

use super::error::{PageError, PageResult};

/// Bytes of a digest in a name.
const DIGEST_BYTES: usize = 8;

/// A file that a page names.
struct Asset {
    name: String,
    media_type: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, ending: &str, media_type: &'static str, content: &'static str) -> Self {
        let digest = Sha256::digest(content);
        let digest: String = digest[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{name}-{digest}.{ending}"), media_type, content }
    }

    fn path(&self) -> String {
        format!("/console/assets/{}", self.name)
    }
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console", "css", "text/css; charset=utf-8", include_str!("console.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("console.js")));
static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

/// Path of the stylesheet.
pub(super) fn style() -> String {
    STYLE.path()
}

/// Path of the script.
pub(super) fn script() -> String {
    SCRIPT.path()
}

/// Path of the icon.
pub(super) fn icon() -> String {
    ICON.path()
}

/// The file of this name.
pub(super) async fn asset(name: web::Path<String>) -> PageResult {
    let all = [&STYLE, &SCRIPT, &ICON];
    let asset = all.into_iter().find(|asset| asset.name == *name).ok_or_else(PageError::unknown)?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(asset.media_type);
    answer.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")));
    Ok(answer.body(asset.content))
}
