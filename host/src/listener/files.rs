//! Files of a folder over HTTP, for pages that use the listener.

use super::http::{Content, plain};
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::path::{Component, Path, PathBuf};
use tokio::fs::File;

/// The largest file that is served, in bytes.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Answers with a file below a folder.
pub(super) async fn answer(root: &Path, path: &str) -> Response<Content> {
    let not_found = || plain(StatusCode::NOT_FOUND, "there is no such file\n");
    let Some(wanted) = relative(path) else { return not_found() };
    let Some((path, file, length)) = open(root, &wanted).await else { return not_found() };
    let mut response = Response::new(Content::file(file, length));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(&path)));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// Opens a file, or the `index.html` of a folder. What a link leads to outside of
/// the folder is not there.
async fn open(root: &Path, wanted: &Path) -> Option<(PathBuf, File, u64)> {
    let root = tokio::fs::canonicalize(root).await.ok()?;
    let mut path = tokio::fs::canonicalize(root.join(wanted)).await.ok()?;
    if tokio::fs::metadata(&path).await.ok()?.is_dir() {
        path = tokio::fs::canonicalize(path.join("index.html")).await.ok()?;
    }
    // Opening something else than a file could wait for ever.
    if !path.starts_with(&root) || !tokio::fs::metadata(&path).await.ok()?.is_file() {
        return None;
    }
    let file = File::open(&path).await.ok()?;
    let length = file.metadata().await.ok()?.len();
    (length <= FILE_BYTES_MAX).then_some((path, file, length))
}

/// The path below the folder; `None` for one that leads out of it, or to a hidden
/// file.
fn relative(path: &str) -> Option<PathBuf> {
    let text = decoded(path)?;
    let path = PathBuf::from(text.trim_start_matches('/'));
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
        _ => false,
    };
    path.components().all(is_plain).then_some(path)
}

/// Resolves percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(['\0', '\\']))
}

fn media_type(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("ico") => "image/x-icon",
        Some("wasm") => "application/wasm",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in ["/../x", "/a/../../x", "/%2e%2e/x", "/a/%2e%2e/%2e%2e/x", "/.git/config"] {
            assert_eq!(relative(path), None, "{path}");
        }
        for path in ["/a\\..\\x", "/%00", "/%f", "/%zz", "/%ff"] {
            assert_eq!(relative(path), None, "{path}");
        }
        assert_eq!(relative("//etc/passwd"), Some("etc/passwd".into()));
        assert_eq!(relative("/a%20b/c.js"), Some("a b/c.js".into()));
        assert_eq!(relative("/"), Some("".into()));
    }
}
